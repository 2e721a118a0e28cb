"""Corpus text in front of probes, for features that need more context than a probe has.

Where fewer than 0.8 of a feature's own exemplars stay ACTIVE when they are cut to the
length of a probe, a silent probe says little: the text is then written behind a silent
32-token window of the corpus (method, section 1).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_NON_ACTIVATING

ENOUGH_CEILING = 0.8
"""Share of cut exemplars still ACTIVE from which on probes need no carrier."""


class Carriers:
    """Puts probes behind corpus text where the feature needs it.

    Args:
        evidence: says whether it does, and holds the silent windows.
        seed: of the order in which carriers are used.
    """

    def __init__(self, evidence: Evidence, seed: int | str) -> None:
        needed = evidence.HasField("ceiling") and evidence.ceiling.active_share < ENOUGH_CEILING
        self._carriers = sorted(set(_silent_texts(evidence))) if needed else []
        # Not for secrets: a seeded choice that has to be the same on every repeat.
        random.Random(seed).shuffle(self._carriers)

    def put(self, text: str, number: int) -> str:
        """The text behind carrier `number`, counted round; the text itself where none is
        needed or the evidence holds none. An empty text stays empty."""
        if not self._carriers or not text.strip():
            return text
        return f"{self._carriers[number % len(self._carriers)]} {text}"


def _silent_texts(evidence: Evidence) -> Iterator[str]:
    for listed in evidence.windows:
        for window in listed.windows:
            if window.strategy != WINDOW_STRATEGY_NON_ACTIVATING or any(window.activations):
                continue
            try:
                text = b"".join(window.tokens.token_bytes).decode()
            except UnicodeDecodeError:
                # A window may begin or end within a character.
                continue
            if text.strip():
                yield text.rstrip(" ")
