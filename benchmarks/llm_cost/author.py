"""Replies of realistic length, in the words of the corpus. What they say is nonsense; how many
tokens they take is what counts, and the lengths are those that the prompts ask for."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

PROBE_WORDS = 11
"""Middle of the 5 to 15 words asked for."""
STATEMENT_WORDS = 30
"""One or two sentences."""
DESCRIPTION_WORDS = 130
"""Of at most 150."""

_KINDS = ("lexical", "semantic", "structural", "positional")


class Author:
    """Answers the schemas of all steps.

    Args:
        corpus: texts whose words it writes in, in another order: what copies a window is
            refused as a probe.
    """

    def __init__(self, corpus: Sequence[str]) -> None:
        words = [w for text in corpus for w in re.findall(r"[^\s\"\\]+", text)]
        random.Random(0).shuffle(words)
        self._words: Iterator[str] = itertools.cycle(words)

    def text(self, count: int) -> str:
        """So many words."""
        return " ".join(itertools.islice(self._words, count))

    def reply(self, schema_name: str, prompt: str) -> dict[str, Any]:
        """The reply to a prompt."""
        answer = getattr(self, schema_name)(prompt)
        assert isinstance(answer, dict)
        return answer

    def propose_hypotheses(self, prompt: str) -> dict[str, Any]:
        """As many as asked for."""
        count = _number(r"Propose (\d+) hypotheses", prompt)
        return {
            "hypotheses": [
                {
                    "statement": self.text(STATEMENT_WORDS),
                    "kind": _KINDS[n % 4],
                    "windows": [f"w{n + 1}", f"w{n + 5}", f"w{n + 9}", f"w{n + 13}"],
                    "rival": n == count - 1,
                    "why": self.text(15),
                }
                for n in range(count)
            ],
            "none_because": "",
        }

    def design_probes(self, prompt: str) -> dict[str, Any]:
        """All probes of all hypotheses; a twin changes one word."""
        section = prompt.split("Hypotheses to test:", 1)[1]
        tests = []
        for name in re.findall(r"^(h\d+): ", section, re.MULTILINE):
            positives = [self.text(PROBE_WORDS) for _ in range(_asked("positives", prompt))]
            twins = [
                {"of": n, "text": f"{self.text(1)} {positives[n - 1].split(' ', 1)[1]}"}
                for n in range(1, _asked("twins", prompt) + 1)
            ]
            boundaries = [self.text(PROBE_WORDS) for _ in range(_asked("boundaries", prompt))]
            tests.append(
                {
                    "hypothesis": name,
                    "positives": positives,
                    "boundaries": boundaries,
                    "twins": twins,
                }
            )
        return {"tests": tests}

    def revise_hypotheses(self, prompt: str) -> dict[str, Any]:
        """Every hypothesis reworded, and windows claimed."""
        names = re.findall(r"^(h\d+) (?:OPEN|REFUTED)", prompt, re.MULTILINE)
        return {
            "operations": [
                {
                    "kind": "refine",
                    "sources": [name],
                    "targets": [
                        {
                            "statement": self.text(STATEMENT_WORDS),
                            "kind": "lexical",
                            "windows": ["w1", "w2", "w3"],
                        }
                    ],
                    "why": self.text(15),
                }
                for name in names
            ],
            "claims": [{"hypothesis": name, "windows": ["w4"]} for name in names[:2]],
        }

    def synthesize(self, _: str) -> dict[str, Any]:
        """Three parts."""
        return {
            "outcome": "explained",
            "label": self.text(10),
            "description": self.text(DESCRIPTION_WORDS),
            "parts": [
                {
                    "statement": self.text(20),
                    "hypotheses": [f"h{n}"],
                    "windows": ["w1", "w2", "w3"],
                    "probes": ["p1.1", "p1.2", "p2.3"],
                }
                for n in range(1, 4)
            ],
            "why": "",
        }

    def design_test(self, _: str) -> dict[str, Any]:
        """A sentence of less than 200 characters."""
        return {"text": self.text(20), "fires": True, "why": self.text(25)}

    def update_hypothesis(self, _: str) -> dict[str, Any]:
        """Never decided, so that all rounds are run."""
        return {"analysis": self.text(60), "verdict": "open", "statement": ""}

    def verify_texts(self, prompt: str) -> dict[str, Any]:
        """A word on every text."""
        numbers = re.findall(r"^Text (\d+)", prompt, re.MULTILINE)
        return {"items": [{"item": int(number), "covered": True} for number in numbers]}


def _number(pattern: str, prompt: str) -> int:
    found = re.search(pattern, prompt)
    assert found is not None, pattern
    return int(found[1])


def _asked(side: str, prompt: str) -> int:
    return _number(rf'- "{side}": exactly (\d+) ', prompt)
