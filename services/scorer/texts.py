"""Texts of a plan and what was measured on them.

Ids say what a text is for: `positive.3`, `boundary.3` written from the explanation;
`top_token/positive.3` from a baseline; `ceiling.3` cut from an exemplar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from saexplain.activation.v1.activation_pb2 import EncodedText
from saexplain.common.v1.pattern_pb2 import Pattern
from saexplain.common.v1.score_pb2 import ScoreRow
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    WINDOW_STRATEGY_NON_ACTIVATING,
    WINDOW_STRATEGY_RANDOM_ACTIVE,
    WINDOW_STRATEGY_TOP,
)
from saexplain.scorer.v1.scorer_pb2 import PlanScoreRequest, ScoreRequest, WrittenText
from services.common.errors import InvalidArgument
from services.common.outcomes import OutcomeThresholds
from services.common.pattern import compile_pattern
from services.common.tensors import from_tensor
from services.scorer.baselines import Predictor, fit
from services.scorer.composition import Composer, claim_threshold
from services.scorer.evidence import Evidence
from services.scorer.methods.base import PATTERN_JUDGE, evidence_of, other_feature_pattern
from services.scorer.predictions import Predictions
from services.scorer.statistics.estimate import Bools, Floats
from services.scorer.vocabulary import Vocabulary

Verify = Callable[["MeasuredText"], "bool | None"]
"""Whether a text is what it was written for; None where nobody can tell."""

AMBIGUITY = OutcomeThresholds().ambiguity_share
"""Within this share of the reference maximum around a threshold rounding could decide."""


@dataclass(frozen=True)
class MeasuredText:
    """A written text that was measured.

    Attributes:
        text: as planned.
        tokens: as the activation service cut it.
        share: its largest activation as a share of the reference maximum, >= 0.
    """

    text: WrittenText
    tokens: TokenSpan
    share: float


@dataclass(frozen=True)
class TextGroup:
    """Texts of one purpose and what became of them.

    Attributes:
        valid: measured and, where there is a verifier, found to be what they were written
            for.
        unmeasured: texts without a measurement or without a verifier's answer.
        invalid: texts that the verifier threw out.
        rows: one per text.
        undefined_reason: why nothing was written for this purpose; empty where it was.
    """

    valid: Sequence[MeasuredText]
    unmeasured: int
    invalid: int
    rows: Sequence[ScoreRow]
    undefined_reason: str = ""

    @property
    def shares(self) -> Floats:
        """Largest shares of the valid texts."""
        return np.array([t.share for t in self.valid], np.float64)

    def clear_of(self, threshold_share: float) -> Floats:
        """Shares of the valid texts that do not lie in the band around a threshold."""
        shares = self.shares
        clear: Bools = np.abs(shares - threshold_share) >= AMBIGUITY
        return shares[clear]


def composer(evidence: Evidence, seed: int) -> Composer:
    """Writes texts from patterns, on carriers of the EXPLAIN split."""
    everything = evidence.windows(
        SPLIT_EXPLAIN,
        WINDOW_STRATEGY_TOP,
        WINDOW_STRATEGY_RANDOM_ACTIVE,
        WINDOW_STRATEGY_NON_ACTIVATING,
    )
    silent = evidence.windows(SPLIT_EXPLAIN, WINDOW_STRATEGY_NON_ACTIVATING)
    return Composer(
        [list(w.tokens.token_bytes) for w in silent],
        Vocabulary(list(w.tokens.token_bytes) for w in everything),
        seed,
    )


def written(
    prefix: str, positives: Iterable[str], boundaries: Iterable[str] = ()
) -> list[WrittenText]:
    """Numbers texts under a prefix."""
    named = [("positive", True, positives), ("boundary", False, boundaries)]
    return [
        WrittenText(id=f"{prefix}{role}.{i}", text=text, intended_active=active)
        for role, active, texts in named
        for i, text in enumerate(texts)
    ]


def baseline_texts(request: PlanScoreRequest, positives: int, boundaries: int) -> list[WrittenText]:
    """Texts of the baselines, composed from their patterns."""
    evidence = evidence_of(request)
    writer = composer(evidence, request.options.seed)
    return [
        text
        for b in fit(evidence, other_feature_pattern(request))
        if b.pattern is not None
        for text in written(
            f"{b.name}/",
            writer.positives(b.pattern, positives),
            writer.boundaries(b.pattern, boundaries) if boundaries else (),
        )
    ]


class MeasuredTexts:
    """Looks up what was measured.

    Raises:
        InvalidArgument: an index outside `texts`, an array of another shape, a value that
            is not finite, or two texts with one id.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self._request = request
        self._predictions = Predictions(request.predictions)
        self._texts = {t.id: t for t in request.texts}
        if len(self._texts) != len(request.texts):
            raise InvalidArgument("two texts with one id", "texts")
        read = [self._read(e, f"encoded_texts[{i}]") for i, e in enumerate(request.encoded_texts)]
        self._measured = {m.text.id: m for m in read}

    def _read(self, encoded: EncodedText, field: str) -> MeasuredText:
        if not 0 <= encoded.text_index < len(self._request.texts):
            raise InvalidArgument("no such text", f"{field}.text_index")
        text = self._request.texts[encoded.text_index]
        values = np.asarray(from_tensor(encoded.activations, f"{field}.activations"), np.float64)
        if values.shape != (len(encoded.tokens.token_ids), 1):
            raise InvalidArgument(
                f"shape {list(values.shape)} is not [tokens, 1]", f"{field}.activations"
            )
        scored = values[encoded.scored_begin :, 0]
        if not np.all(np.isfinite(scored)):
            raise InvalidArgument("activations must be finite", f"{field}.activations")
        largest = float(scored.max()) if scored.size else 0.0
        share = largest / self._request.facts.reference_max
        return MeasuredText(text, encoded.tokens, share)

    def unverified(self, prefix: str) -> TextGroup:
        """The texts whose id begins with `prefix`, all that were measured being valid."""
        return self._group(prefix, lambda _: True)

    def by_pattern(self, prefix: str, pattern: Pattern) -> TextGroup:
        """The same, valid where a pattern evaluated on the encoded tokens agrees with what
        the text was written for."""
        compiled, threshold = compile_pattern(pattern), claim_threshold(pattern)

        def verify(text: MeasuredText) -> bool:
            claimed = float(compiled.predict(text.tokens).max()) >= threshold
            return claimed == text.text.intended_active

        return self._group(prefix, verify)

    def by_judge(self, prefix: str) -> TextGroup:
        """The same, verified by the judge of the request: its pattern, or the language
        model's answers to the VERIFY items."""
        if self._request.options.judge == PATTERN_JUDGE:
            return self.by_pattern(prefix, self._request.explanation.pattern)

        def verify(text: MeasuredText) -> bool | None:
            covered = self._predictions.covered(text.text.id)
            return None if covered is None else covered == text.text.intended_active

        return self._group(prefix, verify)

    def of_baseline(self, baseline: Predictor, role: str) -> TextGroup:
        """The texts that were composed from a baseline's pattern."""
        if baseline.pattern is None:
            return TextGroup([], 0, 0, [], baseline.undefined_reason)
        return self.by_pattern(f"{baseline.name}/{role}", baseline.pattern)

    def _group(self, prefix: str, verify: Verify) -> TextGroup:
        valid, rows, unmeasured, invalid = [], [], 0, 0
        for text in (t for i, t in self._texts.items() if i.startswith(prefix)):
            measured = self._measured.get(text.id)
            verdict = None if measured is None else verify(measured)
            reason = "not measured" if measured is None else ""
            if measured is not None and verdict:
                valid.append(measured)
            elif measured is not None and verdict is None:
                reason = "not verified"
            elif measured is not None:
                reason = "the verifier disagrees with its intention"
            unmeasured += verdict is None
            invalid += verdict is False
            rows.append(_row(text, measured, reason))
        return TextGroup(valid, unmeasured, invalid, rows)


def _row(text: WrittenText, measured: MeasuredText | None, reason: str) -> ScoreRow:
    return ScoreRow(
        item=text.id,
        predicted=1.0 if text.intended_active else 0.0,
        measured=None if measured is None else measured.share,
        weight=1.0,
        excluded_reason=reason,
        text=text.text,
    )
