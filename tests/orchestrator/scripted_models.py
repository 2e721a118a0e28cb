"""Language models of which it is known beforehand what they will claim and how they will
revise it, for features whose words are known: every path of the loop can be driven.

A claim is a list of words. Its positives hold one of them each, its negatives another word;
what the feature does at a word is `tests.fakes.world`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import world
from tests.fakes.openai_server import ChatRequest

COLOURS = ("red", "green", "blue", "yellow")


@dataclass(frozen=True)
class Model:
    """What one scripted model does.

    Attributes:
        claims: words of each hypothesis it proposes; none for no proposal.
        kind: of all of them.
        claimed: words whose windows a hypothesis claims; None for its own words.
        revisions: operations of each revision in turn: kind, sources, words of the targets.
        negative: the word in boundary probes and twins.
        repeats: whether it writes the same probes in every round.
        outcome: of the synthesis.
        verdict: of the published setting's updates; empty for one by the outcomes.
        review: ids that its first review opens again.
    """

    claims: Sequence[Sequence[str]] = (COLOURS,)
    kind: str = "lexical"
    claimed: Sequence[str] | None = None
    revisions: Sequence[Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]] = ()
    negative: str = "stone"
    repeats: bool = False
    outcome: str = "explained"
    verdict: str = ""
    review: Sequence[str] = field(default=())

    def propose_hypotheses(self, prompt: str) -> dict[str, Any]:
        """Its claims."""
        return {
            "hypotheses": [
                {**self._wording(words, prompt), "rival": n > 0, "why": "it is written so"}
                for n, words in enumerate(self.claims)
            ],
            "none_because": "" if self.claims else "nothing in common",
        }

    def _wording(self, words: Sequence[str], prompt: str) -> dict[str, Any]:
        lines = re.findall(r"^(w\d+) (.*)$", prompt, re.MULTILINE)
        claimed = words if self.claimed is None else self.claimed
        windows = [
            name for name, line in lines if any(re.search(rf"\b{w}»\d", line) for w in claimed)
        ]
        return {"statement": f"Words: {', '.join(words)}.", "kind": self.kind, "windows": windows}

    def design_probes(self, prompt: str) -> dict[str, Any]:
        """As many as asked for, none twice unless it repeats itself."""
        begin = 0 if self.repeats else 100 * _round_of(prompt)
        section = prompt.split("Hypotheses to test:", 1)[1]
        tests = []
        for name, words in re.findall(r"^(h\d+): Words: (.*)\.$", section, re.MULTILINE):
            start, cycle = begin + 1000 * int(name[1:]), words.split(", ")
            positives = [
                _text(start + n, cycle[n % len(cycle)]) for n in range(_asked("positives", prompt))
            ]
            tests.append(
                {
                    "hypothesis": name,
                    "positives": positives,
                    "boundaries": [
                        _text(start + 50 + n, self.negative)
                        for n in range(_asked("boundaries", prompt))
                    ],
                    "twins": [
                        {"of": n, "text": _ending(positives[n - 1], self.negative)}
                        for n in range(1, _asked("twins", prompt) + 1)
                    ],
                }
            )
        return {"tests": tests}

    def revise_hypotheses(self, prompt: str) -> dict[str, Any]:
        """The next of its revisions whose sources are in play; none once all are done."""
        in_play = dict(re.findall(r"^(h\d+) [A-Z]+ \(.*\): Words: (.*)\.$", prompt, re.MULTILINE))
        for operations in self.revisions:
            said = [", ".join(words) for _, _, targets in operations for words in targets]
            done = any(words in in_play.values() for words in said)
            if done or not all(s in in_play for _, sources, _ in operations for s in sources):
                continue
            return {
                "operations": [
                    {
                        "kind": kind,
                        "sources": list(sources),
                        "targets": [self._wording(words, prompt) for words in targets],
                        "why": "it is written so",
                    }
                    for kind, sources, targets in operations
                ],
                "claims": [],
            }
        return {"operations": [], "claims": self._claims(in_play, prompt)}

    def _claims(self, in_play: Mapping[str, str], prompt: str) -> list[dict[str, Any]]:
        """The windows shown that hold a word of a hypothesis in play."""
        return [
            {"hypothesis": name, "windows": self._wording(words.split(", "), prompt)["windows"]}
            for name, words in in_play.items()
        ]

    def synthesize(self, prompt: str) -> dict[str, Any]:
        """The first hypothesis shown."""
        found = re.search(r"^(h\d+) [A-Z]+ \(.*\): (.*)$", prompt, re.MULTILINE)
        name, statement = found.groups() if found else ("", "Words: red.")
        return {
            "outcome": self.outcome,
            "label": statement,
            "description": statement,
            "parts": [
                {"statement": statement, "hypotheses": [name], "windows": ["w1"], "probes": []}
            ],
            "why": "nothing stands up" if self.outcome == "no_explanation" else "",
        }

    def design_test(self, prompt: str) -> dict[str, Any]:
        """A positive in odd rounds, a negative control in even ones."""
        name, words = re.search(  # type: ignore[union-attr]
            r"^Hypothesis (h\d+): Words: (.*)\.$", prompt, re.MULTILINE
        ).groups()
        number = len(re.findall(rf"^p\S+ {name} ", prompt, re.MULTILINE))
        fires = number % 2 == 0
        word = words.split(", ")[0] if fires else self.negative
        text = _text(1000 * int(name[1:]) + number, word)
        return {"text": text, "fires": fires, "why": "it is written so"}

    def update_hypothesis(self, prompt: str) -> dict[str, Any]:
        """Decided after two experiments."""
        name = re.search(r"^Hypothesis (h\d+):", prompt, re.MULTILINE)[1]  # type: ignore[index]
        tests = re.findall(rf"^p\S+ {name} (\w+) -> (\w+)", prompt, re.MULTILINE)
        passed = sum(predicted == measured for predicted, measured in tests)
        by_outcome = "confirmed" if passed == len(tests) else "refuted"
        verdict = self.verdict or by_outcome if len(tests) >= 2 else "open"
        return {"analysis": f"{passed} of {len(tests)}", "verdict": verdict, "statement": ""}

    def review_hypotheses(self, prompt: str) -> dict[str, Any]:
        """Its ids at the first review."""
        most = max(map(int, re.findall(r"^p(\d+)\.", prompt, re.MULTILINE)))
        return {"further": list(self.review) if most <= 2 else [], "why": "enough"}

    def verify_texts(self, prompt: str) -> dict[str, Any]:
        """A text is covered if it holds a word of the explanation."""
        words = set(re.findall(r"\w+", prompt.split("explanation", 1)[1].split("\n\n", 2)[0]))
        numbers = re.findall(r"^Text (\d+)", prompt, re.MULTILINE)
        covered = not words.isdisjoint(COLOURS)
        return {"items": [{"item": int(n), "covered": covered} for n in numbers]}


def responder(models: Mapping[str, Model]) -> Any:
    """Answers for all models, each under its own name."""

    def respond(request: ChatRequest) -> dict[str, Any]:
        model = models[request.body["model"]]
        return dict(getattr(model, request.schema_name)(request.last_text))

    return respond


def _round_of(prompt: str) -> int:
    rounds = [int(number) for number in re.findall(r"^p(\d+)\.", prompt, re.MULTILINE)]
    return max(rounds, default=0) + 1


def _asked(side: str, prompt: str) -> int:
    return int(re.search(rf'- "{side}": exactly (\d+) ', prompt)[1])  # type: ignore[index]


def _ending(text: str, word: str) -> str:
    """The text with another last word but one."""
    return f"{text.rsplit(' ', 2)[0]} {word} on"


def _text(number: int, word: str) -> str:
    """Fillers that no two numbers share in this order, then the word."""
    fillers, left = world.FILLERS, []
    for _ in range(4):
        number, place = divmod(number, len(fillers))
        left.append(fillers[place])
    return f"Then {' '.join(left)} {word} on"
