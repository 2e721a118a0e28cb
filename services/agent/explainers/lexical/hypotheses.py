"""Parts as hypotheses: what each claims, of what kind it is, which exemplars it explains."""

from __future__ import annotations

from collections.abc import Iterable

from saexplain.agent.v1.agent_pb2 import Evidence
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_KIND_LEXICAL,
    HYPOTHESIS_KIND_POSITIONAL,
    HYPOTHESIS_KIND_STRUCTURAL,
    HYPOTHESIS_STATUS_OPEN,
    HYPOTHESIS_STATUS_REJECTED,
    HYPOTHESIS_STATUS_SUPERSEDED,
    Hypothesis,
    HypothesisKind,
)
from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_CONTEXT_START,
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_LINE_BREAK,
    TOKEN_CLASS_LINE_START,
    TOKEN_CLASS_PUNCTUATION,
    TOKEN_CLASS_WHITESPACE,
    Pattern,
    PatternPart,
    TokenMatcher,
)
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_TOP, Window
from services.agent.explainers.lexical.measures import PartMeasure
from services.agent.explainers.lexical.weights import SILENT_SHARE
from services.common.pattern import compile_pattern, describe_part
from services.common.pattern.tokens import LOCAL_CLASSES, in_local_class

POSITIONS = frozenset((TOKEN_CLASS_LINE_START, TOKEN_CLASS_CONTEXT_START))
_FORMS = (
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_PUNCTUATION,
    TOKEN_CLASS_WHITESPACE,
    TOKEN_CLASS_LINE_BREAK,
)
_DROPPED = frozenset((HYPOTHESIS_STATUS_REJECTED, HYPOTHESIS_STATUS_SUPERSEDED))


def hypothesis(
    number: int, part: PatternPart, measure: PartMeasure, evidence: Evidence, round_number: int
) -> Hypothesis:
    """A new open hypothesis `h{number}` that claims one part."""
    return Hypothesis(
        id=f"h{number}",
        statement=describe_part(part),
        kind=_kind(part),
        claimed_windows=claimed_windows(part, evidence),
        pattern=Pattern(parts=[part]),
        status=HYPOTHESIS_STATUS_OPEN,
        revision=1,
        created_round=round_number,
        rationale=evidence_sentence(measure),
    )


def part_of(claimed: Hypothesis) -> PatternPart:
    """The one part that a hypothesis of this explainer claims."""
    return claimed.pattern.parts[0]


def is_live(claimed: Hypothesis) -> bool:
    """Whether a hypothesis with a pattern still stands or is at least not replaced."""
    return claimed.status not in _DROPPED and len(claimed.pattern.parts) > 0


def evidence_sentence(measure: PartMeasure) -> str:
    """What the evidence says of a part, in a sentence."""
    precision = "none" if measure.precision is None else f"{measure.precision:.0%}"
    return (
        f"On the evidence it predicts {measure.coverage:.0%} of the active windows, "
        f"{measure.recall:.0%} that no other part does; of those it predicts, {precision} are."
    )


def claimed_windows(part: PatternPart, evidence: Evidence) -> list[str]:
    """Names of the exemplars at whose peak the part predicts more than silence."""
    compiled = compile_pattern(Pattern(parts=[part]))

    def explains(window: Window) -> bool:
        shares = compiled.predict(window.tokens, window.left_context, window.context_position)
        peak = max(range(len(window.activations)), key=lambda i: (window.activations[i], -i))
        return bool(shares[peak] >= SILENT_SHARE)

    return [window.name for window in exemplars(evidence) if explains(window)]


def exemplars(evidence: Evidence) -> list[Window]:
    """The TOP windows, strongest first."""
    return [
        window
        for entry in evidence.windows
        if entry.selection.strategy == WINDOW_STRATEGY_TOP
        for window in entry.windows
        if window.activations
    ]


def _kind(part: PatternPart) -> HypothesisKind.ValueType:
    matchers = [rule.token for rule in part.rules]
    if all(m.token_class in POSITIONS for m in matchers):
        return HYPOTHESIS_KIND_POSITIONAL
    return HYPOTHESIS_KIND_STRUCTURAL if _all_forms(matchers) else HYPOTHESIS_KIND_LEXICAL


def _all_forms(matchers: Iterable[TokenMatcher]) -> bool:
    """Whether no matcher is about particular words."""

    def is_form(matcher: TokenMatcher) -> bool:
        kind = matcher.WhichOneof("kind")
        if kind == "literal":
            return any(in_local_class(matcher.literal, c) for c in _FORMS if c in LOCAL_CLASSES)
        return kind == "token_class"

    return all(map(is_form, matchers))
