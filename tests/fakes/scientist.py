"""Deterministic replies that drive a whole explanation, for any feature.

They read what a language model would read: the strongest marked token of the windows
becomes the claim, the claim's quoted word goes into the probes, and failures are worded
anew once and then given up. Equal prompts give equal replies.

`REPLIES` is what the server answers with as a process; a service that asks for other
schemas adds its responders here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from tests.fakes.openai_server import ChatRequest, Responder

_MARKED = re.compile(r"«(.+?)»(\d+)")
_QUOTED = re.compile(r'"([^"]+)"')
_OPENINGS = (
    "The old captain wrote", "In the morning she found", "Every engineer mentioned",
    "On page twelve it said", "Nobody at the market wanted", "My neighbour painted",
    "After the long winter came", "The second letter contained", "Two students discussed",
    "Behind the station they kept", "A famous recipe begins with", "The judge considered",
)  # fmt: skip
_ENDINGS = (
    "before the train left", "with great care", "in a small notebook", "for the third time",
    "despite the heavy rain", "as the report had asked", "near the river bank",
)  # fmt: skip


def strongest_token(text: str) -> str:
    """The marked token with the largest sum of marks, without visible spaces."""
    sums: Counter[str] = Counter()
    for token, mark in _MARKED.findall(text):
        sums[token.strip("␣")] += int(mark)
    ranked = sorted((-total, token) for token, total in sums.items() if token)
    return ranked[0][1] if ranked else "the"


def quoted(text: str) -> str:
    """The first quoted word of a claim, or `the`."""
    found = _QUOTED.search(text)
    return found[1] if found else "the"


def propose(request: ChatRequest) -> dict[str, Any]:
    """One claim per kind about the strongest token, the last one a rival."""
    prompt = request.last_text
    token = strongest_token(prompt).replace('"', "''")
    windows = re.findall(r"^(w\d+) \S+ (?:[5-9]|10)/10 \|", prompt, re.MULTILINE)[:4]
    count = int(re.search(r"Propose (\d+) hypotheses", prompt)[1])  # type: ignore[index]
    claims = [
        ("lexical", f'The token "{token}", whatever stands before it.'),
        ("semantic", f'Words that mean the same as "{token}".'),
        ("structural", f'Phrases built around "{token}".'),
        ("positional", f'The word behind "{token}".'),
    ]
    claims += [("lexical", f'The token "{token}", case {n}.') for n in range(5, count + 1)]
    return {
        "hypotheses": [
            {
                "statement": statement,
                "kind": kind,
                "windows": windows,
                "rival": number == min(count, 4),
                "why": "the strongest windows hold it",
            }
            for number, (kind, statement) in enumerate(claims[:count], 1)
        ],
        "none_because": "",
    }


def _sentence(seed: int, word: str) -> str:
    opening = _OPENINGS[seed % len(_OPENINGS)]
    ending = _ENDINGS[(seed // len(_OPENINGS) + seed) % len(_ENDINGS)]
    return f"{opening} {word} {ending}, number {seed}."


def _asked(prompt: str, side: str) -> int:
    found = re.search(rf'- "{side}": exactly (\d+) ', prompt)
    return int(found[1]) if found else 0


def design(request: ChatRequest) -> dict[str, Any]:
    """Positives hold the claim's word, boundaries and twins hold another."""
    prompt = request.last_text
    seed = _next_round(prompt)
    section = prompt.split("Hypotheses to test:", 1)[1]
    return {
        "tests": [
            _tests(prompt, name, quoted(statement), 1000 * seed + 100 * int(name[1:]))
            for name, statement in re.findall(r"^(h\d+): (.*)$", section, re.MULTILINE)
        ]
    }


def _next_round(prompt: str) -> int:
    """One behind the last round of which the prompt shows an experiment."""
    rounds = [int(number) for number in re.findall(r"^p(\d+)\.", prompt, re.MULTILINE)]
    return max(rounds, default=0) + 1


def _tests(prompt: str, name: str, word: str, seed: int) -> dict[str, Any]:
    twins = range(1, _asked(prompt, "twins") + 1)
    return {
        "hypothesis": name,
        "positives": [_sentence(seed + n, word) for n in range(_asked(prompt, "positives"))],
        "boundaries": [
            _sentence(seed + 40 + n, "something") for n in range(_asked(prompt, "boundaries"))
        ],
        "twins": [{"of": n, "text": _sentence(seed + n - 1, "nothing")} for n in twins],
    }


def revise(request: ChatRequest) -> dict[str, Any]:
    """Words failed claims anew once, then gives them up."""
    head = request.last_text.split("Predictions that failed", 1)
    failed = set(re.findall(r"^p\S+ (h\d+) ", head[1], re.MULTILINE)) if len(head) > 1 else set()
    operations = []
    for name, status, statement in re.findall(
        r"^(h\d+) (OPEN|REFUTED) \(.*?\): (.*)$", head[0], re.MULTILINE
    ):
        reworded = "in running text" in statement
        if name not in failed and status == "OPEN":
            continue
        give_up = reworded or status == "REFUTED"
        wording = f"{statement.rstrip('.')} in running text."
        target = {"statement": wording, "kind": "lexical", "windows": []}
        operations.append(
            {
                "kind": "reject" if give_up else "refine",
                "sources": [name],
                "targets": [] if give_up else [target],
                "why": "its predictions failed",
            }
        )
    return {"operations": operations, "claims": []}


def synthesize(request: ChatRequest) -> dict[str, Any]:
    """Explains by the word of the first hypothesis shown."""
    prompt = request.last_text
    found = re.search(r"^(h\d+) [A-Z]+ \(.*?\): (.*)$", prompt, re.MULTILINE)
    statement = found[2] if found else f'The token "{strongest_token(prompt)}".'
    word = quoted(statement)
    probes = re.findall(r"^(p\d+\.\d+) h\d+ active -> active", prompt, re.MULTILINE)
    windows = re.findall(r"^(w\d+) \S+ (?:[5-9]|10)/10 \|", prompt, re.MULTILINE)
    hypotheses = [found[1]] if found else []
    return {
        "outcome": "explained",
        "label": f'The token "{word}"',
        "description": f'Fires strongly at the token "{word}", whatever stands around it.',
        "parts": [
            {
                "statement": statement,
                "hypotheses": hypotheses,
                "windows": windows[:3],
                "probes": probes[:3],
            }
        ],
        "why": "",
    }


def design_test(request: ChatRequest) -> dict[str, Any]:
    """One sentence with the claim's word; every second round one without it."""
    prompt = request.last_text
    found = re.search(r"^Hypothesis (h\d+): (.*)$", prompt, re.MULTILINE)
    name, word = found[1], quoted(found[2])  # type: ignore[index]
    number = _next_round(prompt)
    fires = number % 2 == 1
    text = _sentence(1000 * number + 100 * int(name[1:]), word if fires else "something")
    return {"text": text, "fires": fires, "why": "tests the word"}


def update_hypothesis(request: ChatRequest) -> dict[str, Any]:
    """Confirmed after two tests that went as predicted, refuted after two that did not."""
    prompt = request.last_text
    name = re.search(r"^Hypothesis (h\d+):", prompt, re.MULTILINE)[1]  # type: ignore[index]
    tests = re.findall(rf"^p\S+ {name} (\w+) -> (\w+)", prompt, re.MULTILINE)
    passed = sum(predicted == measured for predicted, measured in tests)
    verdict = "open"
    if len(tests) - passed >= 2:
        verdict = "refuted"
    elif passed >= 2:
        verdict = "confirmed"
    return {"analysis": f"{passed} of {len(tests)} as predicted", "verdict": verdict,
            "statement": ""}  # fmt: skip


def review_hypotheses(request: ChatRequest) -> dict[str, Any]:
    """Time to conclude."""
    return {"further": [], "why": "enough was varied"}


def _explanation(prompt: str) -> str:
    return prompt.split("<explanation>", 1)[1].split("</explanation>", 1)[0]


def predict(request: ChatRequest) -> dict[str, Any]:
    """Full strength at every token that is the explanation's word, nothing elsewhere."""
    prompt = request.last_text
    word = quoted(_explanation(prompt))
    items = []
    for number, body in re.findall(r"^Passage (\d+)\n((?:.+\n?)+)", prompt, re.MULTILINE):
        tokens = re.findall(r"(\d+):(\S*)", body.split("tokens: ", 1)[1])
        hits = [int(index) for index, token in tokens if token.strip("␣") == word]
        items.append({"item": int(number), "tokens": [{"index": i, "strength": 10} for i in hits]})
    return {"items": items}


def verify(request: ChatRequest) -> dict[str, Any]:
    """A text is covered if it holds the explanation's word."""
    prompt = request.last_text
    word = quoted(_explanation(prompt))
    texts = re.findall(r"^Text (\d+)\n(.*)$", prompt, re.MULTILINE)
    return {"items": [{"item": int(n), "covered": word in text} for n, text in texts]}


def _listed(prompt: str) -> list[tuple[str, str]]:
    """Numbers and texts of what stands as JSON strings on lines of their own."""
    listed = re.findall(r'^Passage (\d+): (".*")$', prompt, re.MULTILINE)
    return [(number, json.loads(text)) for number, text in listed]


def classify(request: ChatRequest) -> dict[str, Any]:
    """A passage is likely if it holds the explanation's word, among marks if there are any."""
    prompt = request.last_text
    word = quoted(_explanation(prompt))
    items = []
    for number, text in _listed(prompt):
        marked = " ".join(re.findall("⟪(.*?)⟫", text)) if "⟪" in text else text
        items.append({"item": int(number), "percent": 90 if word in marked else 10})
    return {"items": items}


def _groups(prompt: str) -> list[tuple[int, list[str]]]:
    sections = re.split(r"^Group (\d+)$", prompt, flags=re.MULTILINE)[1:]
    pairs = zip(sections[::2], sections[1::2], strict=True)
    return [(int(number), [text for _, text in _listed(body)]) for number, body in pairs]


def pick(request: ChatRequest) -> dict[str, Any]:
    """The first passage without the explanation's word; without an explanation the first."""
    prompt = request.last_text
    word = quoted(_explanation(prompt)) if "<explanation>" in prompt else ""
    groups = []
    for number, texts in _groups(prompt):
        odd = [place for place, text in enumerate(texts, 1) if word and word not in text]
        groups.append({"group": number, "passage": odd[0] if odd else 1})
    return {"groups": groups}


def select(request: ChatRequest) -> dict[str, Any]:
    """The passages with the explanation's word."""
    prompt = request.last_text
    word = quoted(_explanation(prompt))
    return {
        "groups": [
            {"group": number, "passages": [p for p, text in enumerate(texts, 1) if word in text]}
            for number, texts in _groups(prompt)
        ]
    }


def simulate(request: ChatRequest) -> dict[str, Any]:
    """Ten at every token that is the explanation's word, 0 elsewhere."""
    prompt = request.last_text
    word = quoted(_explanation(prompt))
    passages = []
    for number, body in re.findall(r"^Passage (\d+)\n((?:.+\n?)+)", prompt, re.MULTILINE):
        tokens = re.findall(r"(\d+):(\S*)", body.split("tokens: ", 1)[1])
        values = [[int(i), 10 if token.strip("␣") == word else 0] for i, token in tokens]
        passages.append({"passage": int(number), "values": values})
    return {"passages": passages}


def write(request: ChatRequest) -> dict[str, Any]:
    """Sentences with the explanation's word, and the same without it."""
    prompt = request.last_text
    word = quoted(_explanation(prompt))

    def asked(kind: str) -> int:
        found = re.search(rf"Write exactly (\d+) {kind}", prompt)
        return int(found[1]) if found else 0

    return {
        "positives": [_sentence(9000 + n, word) for n in range(asked("positives"))],
        "boundaries": [_sentence(9500 + n, "something") for n in range(asked("boundaries"))],
    }


def fill(request: ChatRequest) -> dict[str, Any]:
    """The plainest reply that keeps to the schema asked for."""
    return dict(_plainest(request.schema, request.schema))


def _plainest(node: dict[str, Any], root: dict[str, Any]) -> Any:
    if "$ref" in node:
        return _plainest(root["$defs"][node["$ref"].rsplit("/", 1)[1]], root)
    if "enum" in node or "const" in node:
        return node.get("const", (node.get("enum") or [None])[0])
    if "anyOf" in node:
        return _plainest(node["anyOf"][0], root)
    match node.get("type"):
        case "object":
            return {name: _plainest(n, root) for name, n in node.get("properties", {}).items()}
        case "array":
            item = node.get("items", {})
            return [_plainest(item, root) for _ in range(node.get("minItems", 0))]
        case "string":
            return "text"
        case "integer" | "number":
            return node.get("minimum", 0)
        case "boolean":
            return False
        case _:
            return None


REPLIES: dict[str, Responder] = {
    "propose_hypotheses": propose,
    "design_probes": design,
    "revise_hypotheses": revise,
    "design_test": design_test,
    "update_hypothesis": update_hypothesis,
    "review_hypotheses": review_hypotheses,
    "synthesize": synthesize,
    "predict_activations": predict,
    "verify_texts": verify,
    "classify_passages": classify,
    "classify_highlights": classify,
    "pick_uncovered": pick,
    "pick_odd": pick,
    "select_active": select,
    "simulate_activations": simulate,
    "write_texts": write,
    "*": fill,
}
