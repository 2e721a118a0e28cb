"""What a request must hold before an explainer sees it.

Explainers read the EXPLAIN split only: a window of another split is refused here,
because an explanation that has seen SELECT or HELDOUT cannot be scored on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from saexplain.agent.v1.agent_pb2 import Evidence, ExplainerOptions, RunState
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.usage_pb2 import JournalScope, LlmOptions
from saexplain.common.v1.window_pb2 import SPLIT_EXPLAIN, Split, Window
from services.common.errors import FieldViolation, InvalidArgument
from services.common.names import parse_explanation, parse_feature

MAX_WINDOWS = 1000
MAX_RESULTS = 2000
MAX_HYPOTHESES = 200
IMPORT = "import"
"""The one explainer that is handed an explanation."""

_Report = Callable[[str, str], None]


class _Violations:
    """Collects what is wrong, so that a caller hears of everything at once."""

    _MOST = 20

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def report(self, field: str, description: str) -> None:
        if len(self._found) < self._MOST:
            self._found.append(FieldViolation(field, description))

    def within(self, field: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            self.report(field, f"must be in [{low:g}, {high:g}], is {value:g}")

    def raise_if_any(self) -> None:
        if self._found:
            raise InvalidArgument(self._found[0].description, violations=self._found)


def check_step(
    options: ExplainerOptions,
    scope: JournalScope,
    evidence: Evidence,
    state: RunState | None,
    *,
    uses_llm: bool,
) -> None:
    """Checks the parts that all step requests share.

    Args:
        state: None for the step that has none yet.
        uses_llm: whether the explainer needs a model and a journal scope.

    Raises:
        InvalidArgument: with a violation for each wrong field, at most 20.
    """
    found = _Violations()
    _check_options(options, found, uses_llm=uses_llm)
    if uses_llm:
        _check_scope(scope, found)
    _check_evidence(evidence, found)
    if state is not None:
        _check_state(state, found)
    found.raise_if_any()


def _check_options(options: ExplainerOptions, found: _Violations, *, uses_llm: bool) -> None:
    found.within("options.hypothesis_count", options.hypothesis_count, 0, 12)
    found.within("options.positive_probe_count", options.positive_probe_count, 0, 24)
    found.within("options.negative_probe_count", options.negative_probe_count, 0, 24)
    given = options.given_explanation
    if (options.explainer == IMPORT) != options.HasField("given_explanation"):
        found.report(
            "options.given_explanation", f"is for the explainer {IMPORT!r}, which needs it"
        )
    elif options.explainer == IMPORT and not (given.label.strip() or given.description.strip()):
        found.report("options.given_explanation", "has neither a label nor a description")
    if options.HasField("llm"):
        _check_llm(options.llm, found)
    elif uses_llm:
        found.report("options.llm", "is required by an explainer that asks a language model")


def _check_llm(llm: LlmOptions, found: _Violations) -> None:
    if not llm.model:
        found.report("options.llm.model", "is required")
    if len(llm.model) > 200:
        found.report("options.llm.model", "is longer than 200 characters")
    if llm.HasField("temperature"):
        found.within("options.llm.temperature", llm.temperature, 0, 2)
    if llm.HasField("max_output_token_count"):
        limit = llm.max_output_token_count
        found.within("options.llm.max_output_token_count", limit, 16, 65_536)


def _check_scope(scope: JournalScope, found: _Violations) -> None:
    try:
        parse_explanation(scope.owner, "scope.owner")
    except InvalidArgument as error:
        found.report("scope.owner", error.message)
    if not 1 <= len(scope.step) <= 100:
        found.report("scope.step", "must have 1 to 100 characters")
    if scope.round < 0 or scope.ordinal < 0:
        found.report("scope", "round and ordinal must not be negative")


def _check_evidence(evidence: Evidence, found: _Violations) -> None:
    try:
        parse_feature(evidence.facts.feature, "evidence.facts.feature")
    except InvalidArgument as error:
        found.report("evidence.facts.feature", error.message)
    if not (math.isfinite(evidence.facts.reference_max) and evidence.facts.reference_max >= 0):
        found.report("evidence.facts.reference_max", "must be finite and not negative")
    total = sum(len(listed.windows) for listed in evidence.windows)
    if total > MAX_WINDOWS:
        found.report("evidence.windows", f"holds {total} windows, at most {MAX_WINDOWS}")
        return
    for outer, listed in enumerate(evidence.windows):
        for inner, window in enumerate(listed.windows):
            _check_window(window, f"evidence.windows[{outer}].windows[{inner}]", found.report)


def _check_window(window: Window, field: str, report: _Report) -> None:
    if not window.name:
        report(f"{field}.name", "is required")
    if window.split != SPLIT_EXPLAIN:
        split = Split.Name(window.split) if window.split in Split.values() else window.split
        report(f"{field}.split", f"explainers read SPLIT_EXPLAIN only, not {split}")
    _check_span(window.tokens, f"{field}.tokens", report)
    _check_activations(window.activations, window.tokens, f"{field}.activations", report)
    if len(window.left_context.token_ids) != len(window.left_context.token_bytes):
        report(f"{field}.left_context", "token_ids and token_bytes differ in length")


def _check_span(span: TokenSpan, field: str, report: _Report) -> None:
    if not span.token_bytes:
        report(field, "holds no token")
    if len(span.token_ids) != len(span.token_bytes):
        report(field, "token_ids and token_bytes differ in length")


def _check_activations(
    activations: Sequence[float], span: TokenSpan, field: str, report: _Report
) -> None:
    if len(activations) != len(span.token_bytes):
        report(field, f"has {len(activations)} values for {len(span.token_bytes)} tokens")
    if not all(math.isfinite(value) and value >= 0 for value in activations):
        report(field, "must be finite and not negative")


def _check_state(state: RunState, found: _Violations) -> None:
    for field, count in (("round", state.round), ("review_count", state.review_count)):
        if count < 0:
            found.report(f"state.{field}", "must not be negative")
    if len(state.results) > MAX_RESULTS:
        found.report("state.results", f"holds more than {MAX_RESULTS} results")
        return
    if len(state.hypotheses) > MAX_HYPOTHESES:
        found.report("state.hypotheses", f"holds more than {MAX_HYPOTHESES} hypotheses")
        return
    ids = [hypothesis.id for hypothesis in state.hypotheses]
    if len(set(ids)) != len(ids) or "" in ids:
        found.report("state.hypotheses", "ids must be unique and not empty")
    probes = [result.probe.id for result in state.results]
    if len(set(probes)) != len(probes) or "" in probes:
        found.report("state.results", "probe ids must be unique and not empty")
    for number, result in enumerate(state.results):
        # A text that could not be measured has no tokens.
        if result.tokens.token_bytes or result.activations:
            field = f"state.results[{number}].activations"
            _check_activations(result.activations, result.tokens, field, found.report)
