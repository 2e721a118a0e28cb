"""Which probes are worth measuring: the checks that every explainer's probes pass.

A probe that repeats a text already measured, or copies a window of the evidence, can
only confirm what its author has read; a minimal pair that changes more than a few
tokens isolates nothing. Both are refused here, in code, and listed with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain

from saexplain.agent.v1.agent_pb2 import Evidence, RefusedProbe, RunState
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_OPEN,
    PROBE_ROLE_BOUNDARY,
    PROBE_ROLE_MINIMAL_PAIR,
    Hypothesis,
    Probe,
)
from saexplain.common.v1.window_pb2 import Window

MAX_PROBE_BYTES = 1200
"""Longest probe in UTF-8 bytes: a 32-token carrier with room to spare."""

MAX_TWIN_DISTANCE = 3
"""Most tokens that a minimal pair may change (method, section 4, step 3)."""

_CORE_REACH = 5
_COPY_WORDS = 4
_WORDS = re.compile(r"\w+|[^\w\s]|\s+")


def words(text: str) -> list[str]:
    """Words, single marks and runs of whitespace: joined they are the text.

    They stand in for tokens where there is no tokenizer.
    """
    return _WORDS.findall(text)


def word_distance(one: str, other: str, limit: int) -> int:
    """Levenshtein distance of two texts counted in `words`, or `limit + 1` if greater."""
    left, right = words(one), words(other)
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    previous = list(range(len(right) + 1))
    for row, word in enumerate(left, 1):
        current = [row]
        for column, candidate in enumerate(right, 1):
            substitution = previous[column - 1] + (word != candidate)
            current.append(min(previous[column] + 1, current[-1] + 1, substitution))
        previous = current
    return min(previous[-1], limit + 1)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _joined(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", errors="replace")


def _core(window: Window) -> str:
    """The peak of a window with five tokens on either side."""
    peak = max(range(len(window.activations)), key=lambda i: window.activations[i])
    pieces = window.tokens.token_bytes[max(0, peak - _CORE_REACH) : peak + _CORE_REACH + 1]
    return _folded(_joined(pieces))


class ProbeGate:
    """Admits drafts of one round and numbers them.

    Args:
        evidence: its windows must not be copied.
        state: its results must not be repeated; only its OPEN hypotheses are tested.
    """

    def __init__(self, evidence: Evidence, state: RunState) -> None:
        self._round = state.round
        self._open = {h.id: h for h in state.hypotheses if h.status == HYPOTHESIS_STATUS_OPEN}
        self._known = {result.probe.id: result.probe for result in state.results}
        self._predictions = {r.probe.text: _prediction(r.probe) for r in state.results}
        windows = list(chain.from_iterable(listed.windows for listed in evidence.windows))
        self._texts = [_folded(_joined(w.tokens.token_bytes)) for w in windows]
        self._cores = {_core(w) for w in windows if any(value > 0 for value in w.activations)}

    def admit(self, drafts: Sequence[Probe]) -> tuple[list[Probe], list[RefusedProbe]]:
        """Checks drafts in order.

        A draft's `id` is any name that is unique among the drafts, and a twin refers to
        it or to a measured probe. Admitted probes get ids `p{round}.{ordinal}`, the
        round, and the present revision of their hypothesis. A twin without an admitted
        or measured active partner for the same hypothesis is kept as a boundary probe.

        Returns:
            The admitted probes and the refused ones, both in the order of `drafts`.
        """
        admitted: list[Probe] = []
        refused: list[RefusedProbe] = []
        partners = dict(self._known)
        for draft in drafts:
            partner = self._partner(draft, partners)
            reason = self._refusal(draft, partner)
            if reason is not None:
                refused.append(
                    RefusedProbe(
                        text=draft.text[:MAX_PROBE_BYTES],
                        reason=reason,
                        hypothesis_id=draft.hypothesis_id,
                    )
                )
                continue
            probe = self._numbered(draft, partner, len(admitted) + 1)
            self._predictions[probe.text] = _prediction(probe)
            partners[draft.id] = probe
            admitted.append(probe)
        return admitted, refused

    def _partner(self, draft: Probe, partners: dict[str, Probe]) -> Probe | None:
        if draft.role != PROBE_ROLE_MINIMAL_PAIR:
            return None
        partner = partners.get(draft.twin_probe_id)
        if partner is None or not partner.predicted_active:
            return None
        return partner if partner.hypothesis_id == draft.hypothesis_id else None

    def _refusal(self, draft: Probe, partner: Probe | None) -> str | None:
        if draft.hypothesis_id not in self._open:
            return "unknown_hypothesis"
        if not draft.text.strip():
            return "empty"
        if len(draft.text.encode()) > MAX_PROBE_BYTES:
            return "too_long"
        earlier = self._predictions.get(draft.text)
        if earlier is not None:
            opposite = (draft.hypothesis_id, not draft.predicted_active)
            return "contradiction" if earlier == opposite else "repeats_probe"
        if self._copies_window(draft.text):
            return "repeats_exemplar"
        if partner is not None:
            distance = word_distance(draft.text, partner.text, MAX_TWIN_DISTANCE)
            if distance > MAX_TWIN_DISTANCE:
                return "twin_differs_too_much"
        return None

    def _copies_window(self, text: str) -> bool:
        folded = _folded(text)
        if folded in self._texts or any(core in folded for core in self._cores if core):
            return True
        # A word or two that a window also holds are no copy of it.
        long_enough = len(folded.split()) >= _COPY_WORDS
        return long_enough and any(folded in known for known in self._texts)

    def _numbered(self, draft: Probe, partner: Probe | None, ordinal: int) -> Probe:
        probe = Probe()
        probe.CopyFrom(draft)
        probe.id = f"p{self._round}.{ordinal}"
        probe.round = self._round
        probe.hypothesis_revision = self._open[draft.hypothesis_id].revision
        probe.twin_probe_id = partner.id if partner is not None else ""
        if probe.role == PROBE_ROLE_MINIMAL_PAIR and partner is None:
            probe.role = PROBE_ROLE_BOUNDARY
        return probe


def _prediction(probe: Probe) -> tuple[str, bool]:
    return probe.hypothesis_id, probe.predicted_active


def next_hypothesis_number(hypotheses: Iterable[Hypothesis]) -> int:
    """The number behind `h` that no hypothesis has had yet; ids are never used again."""
    numbers = [int(h.id[1:]) for h in hypotheses if re.fullmatch(r"h[0-9]{1,6}", h.id)]
    return max(numbers, default=0) + 1
