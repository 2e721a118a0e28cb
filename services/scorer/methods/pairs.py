"""Minimal pairs: an active window and the same with one token changed, both measured.

In turns the peak token is replaced or the one before it, by a token of a silent window that
is written alike (with or without a space before it, letters or not). Only where the text
is cut into the tokens that it was made of, the original is ACTIVE and its twin SILENT, the
twin is a negative. Nothing is tried again on its outcome, and no explanation takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import Window
from saexplain.scorer.v1.scorer_pb2 import WrittenText
from services.scorer.baselines import ACTIVE_SHARE
from services.scorer.firing import FIRES_SHARE
from services.scorer.texts import MeasuredTexts


@dataclass(frozen=True)
class Pair:
    """An active window and its twin.

    Attributes:
        id: of the twin's item; its texts are `{id}.original` and `{id}.twin`.
        original: the window.
        twin: the same with one token changed, without activations.
    """

    id: str
    original: Window
    twin: Window

    def texts(self) -> list[WrittenText]:
        """Both as texts to measure."""
        return [
            WrittenText(id=f"{self.id}.original", text=_text(self.original), intended_active=True),
            WrittenText(id=f"{self.id}.twin", text=_text(self.twin), intended_active=False),
        ]


def make_pairs(active: Sequence[Window], silent: Sequence[Window], seed: int) -> list[Pair]:
    """A pair of every active window that can be changed and written as text."""
    rng = np.random.default_rng(seed % 2**64)
    alike: dict[tuple[bool, bool], list[tuple[int, bytes]]] = {}
    for window in silent:
        for token in zip(window.tokens.token_ids, window.tokens.token_bytes, strict=True):
            alike.setdefault(_kind(token[1]), []).append(token)
    pairs = []
    for number, window in enumerate(active):
        place = max(int(np.argmax(window.activations)) - number % 2, 0)
        here = window.tokens.token_bytes[place]
        options = [t for t in alike.get(_kind(here), ()) if t[1] != here]
        if not options:
            continue
        pair = Pair(
            f"pair.{number}",
            window,
            _changed(window, place, options[int(rng.integers(len(options)))]),
        )
        if _writable(window) and _writable(pair.twin):
            pairs.append(pair)
    return pairs


def measured_share(pair: Pair, texts: MeasuredTexts) -> float | str | None:
    """The twin's largest share where it is a negative; why it is none; None where one of
    the two texts was not measured."""
    found = {t.text.id: t for t in texts.unverified(f"{pair.id}.").valid}
    original, twin = found.get(f"{pair.id}.original"), found.get(f"{pair.id}.twin")
    if original is None or twin is None:
        return None
    for text, window in ((original, pair.original), (twin, pair.twin)):
        if list(text.tokens.token_ids) != list(window.tokens.token_ids):
            return "cut into other tokens"
    if original.share < ACTIVE_SHARE:
        return "the original is not active as a text of its own"
    if twin.share >= FIRES_SHARE:
        return "the change does not silence it"
    return twin.share


def _changed(window: Window, place: int, token: tuple[int, bytes]) -> Window:
    ids, spellings = list(window.tokens.token_ids), list(window.tokens.token_bytes)
    ids[place], spellings[place] = token
    return Window(
        name=window.name,
        document=window.document,
        tokens=TokenSpan(token_ids=ids, token_bytes=spellings),
    )


def _kind(token: bytes) -> tuple[bool, bool]:
    return token.startswith(b" "), token.strip().isalpha()


def _text(window: Window) -> str:
    return b"".join(window.tokens.token_bytes).decode()


def _writable(window: Window) -> bool:
    try:
        return bool(_text(window))
    except UnicodeDecodeError:
        return False
