"""What a request must be before a method sees it. Every refusal names the field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from saexplain.activation.v1.activation_pb2 import WindowList
from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.usage_pb2 import JournalScope, LlmOptions
from saexplain.common.v1.window_pb2 import Window
from saexplain.scorer.v1.scorer_pb2 import (
    JudgeRequest,
    MethodOptions,
    PlanScoreRequest,
    ScoreRequest,
)
from services.common import pattern
from services.common.errors import FieldViolation, InvalidArgument
from services.scorer.item_checks import (
    Problem,
    item_problems,
    position_problems,
    span_problems,
)
from services.scorer.methods.base import LLM_JUDGE, ScoringMethod, unscorable

MAX_LABEL_CHARACTERS = 100
MAX_DESCRIPTION_CHARACTERS = 4000


def check_plan(request: PlanScoreRequest, method: ScoringMethod, max_windows: int) -> None:
    """Raises InvalidArgument unless a plan can be made of the request."""
    _check_common(request, method, max_windows)
    asks = request.options.judge == LLM_JUDGE and method.declaration.writes_texts
    if asks and not unscorable(request):
        _raise(_scope_problems(request.scope))


def check_judge(request: JudgeRequest, method: ScoringMethod, max_items: int) -> None:
    """Raises InvalidArgument unless every item can be judged."""
    if len(request.items) > max_items:
        raise InvalidArgument(
            f"{len(request.items)} items, at most {max_items} are judged in one call",
            "items",
            "TOO_MANY_ITEMS",
            metadata={"limit": str(max_items)},
        )
    _check_texts(request.explanation)
    problems = [*_options_problems(request.options, method), *_explanation_problems(request)]
    if not request.items:
        problems.append(("items", "at least one item is needed"))
    if request.options.judge == LLM_JUDGE:
        problems += _scope_problems(request.scope)
    seen: set[str] = set()
    for index, item in enumerate(request.items):
        problems += [(f"items[{index}].{f}", why) for f, why in item_problems(item)]
        if item.id in seen:
            problems.append((f"items[{index}].id", "the second item of this id"))
        seen.add(item.id)
    _raise(problems)


def check_score(request: ScoreRequest, method: ScoringMethod, max_windows: int) -> None:
    """Raises InvalidArgument unless the request can be scored."""
    _check_common(request, method, max_windows)


def _check_common(
    request: PlanScoreRequest | ScoreRequest, method: ScoringMethod, max_windows: int
) -> None:
    count = sum(len(entry.windows) for entry in request.windows)
    if count > max_windows:
        raise InvalidArgument(
            f"{count} windows, at most {max_windows} are scored",
            "windows",
            "TOO_MANY_ITEMS",
            metadata={"limit": str(max_windows)},
        )
    _check_texts(request.explanation)
    problems = list(_options_problems(request.options, method))
    reference = request.facts.reference_max
    if not (math.isfinite(reference) and reference >= 0):
        problems.append(("facts.reference_max", "must be finite and >= 0"))
    if not unscorable(request):
        problems += _explanation_problems(request)
    if request.HasField("other_feature_pattern"):
        pattern.validate(request.other_feature_pattern, "other_feature_pattern")
    for index, entry in enumerate(request.windows):
        problems += [(f"windows[{index}].{f}", why) for f, why in _list_problems(entry, method)]
    _raise(problems)


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        field, why = problems[0]
        violations = [FieldViolation(f, w) for f, w in problems[:20]]
        raise InvalidArgument(f"{field}: {why}", violations=violations)


def _check_texts(explanation: Explanation) -> None:
    for name, limit in (
        ("label", MAX_LABEL_CHARACTERS),
        ("description", MAX_DESCRIPTION_CHARACTERS),
    ):
        if len(getattr(explanation, name)) > limit:
            raise InvalidArgument(
                f"longer than {limit} characters", f"explanation.{name}", "TEXT_TOO_LONG"
            )


def _options_problems(options: MethodOptions, method: ScoringMethod) -> Iterator[Problem]:
    judges = method.declaration.judges
    if options.judge not in judges:
        names = " or ".join(f"`{name}`" for name in judges)
        yield "options.judge", f"`{method.declaration.name}` is judged by {names}"
    if options.judge == LLM_JUDGE:
        yield from ((f"options.llm.{f}", why) for f, why in _llm_problems(options.llm))
    if options.HasField("writer"):
        if options.judge != LLM_JUDGE or not method.declaration.writes_texts:
            yield "options.writer", "only for methods that have texts written by the judge `llm`"
        yield from ((f"options.writer.{f}", why) for f, why in _llm_problems(options.writer))


def _llm_problems(options: LlmOptions) -> Iterator[Problem]:
    if not options.model:
        yield "model", "a language model needs a name"
    if options.HasField("temperature") and not 0 <= options.temperature <= 2:
        yield "temperature", "must be in [0, 2]"
    limit = options.max_output_token_count
    if options.HasField("max_output_token_count") and not 16 <= limit <= 65_536:
        yield "max_output_token_count", "must be in [16, 65536]"


def _explanation_problems(
    request: PlanScoreRequest | JudgeRequest | ScoreRequest,
) -> list[Problem]:
    explanation, judge = request.explanation, request.options.judge
    if judge == LLM_JUDGE:
        if explanation.description or explanation.label:
            return []
        return [("explanation.description", "the judge `llm` needs a text to read")]
    if not explanation.pattern.parts:
        why = "the judge `pattern` needs one; use `llm` for an explanation without"
        return [("explanation.pattern", why)]
    pattern.validate(explanation.pattern, "explanation.pattern")
    return []


def _scope_problems(scope: JournalScope) -> list[Problem]:
    wanted = (("owner", scope.owner), ("step", scope.step))
    missing = [name for name, value in wanted if not value]
    return [(f"scope.{name}", "required where a language model is asked") for name in missing]


def _list_problems(entry: WindowList, method: ScoringMethod) -> Iterator[Problem]:
    declared = {(s.split, s.strategy) for s in method.declaration.selections}
    selection = entry.selection
    if (selection.split, selection.strategy) not in declared:
        yield "selection", f"`{method.declaration.name}` reads no such windows"
        return
    for index, window in enumerate(entry.windows):
        path = f"windows[{index}]"
        if window.split != selection.split:
            yield f"{path}.split", "another split than its list's: splits must not mix"
        if window.strategy != selection.strategy:
            yield f"{path}.strategy", "another strategy than its list's"
        yield from ((f"{path}.{f}", why) for f, why in _window_problems(window))


def _window_problems(window: Window) -> Iterator[Problem]:
    for name in ("name", "document"):
        if not getattr(window, name):
            yield name, "required"
    yield from ((f"tokens.{f}", why) for f, why in span_problems(window.tokens))
    if not window.tokens.token_ids:
        yield "tokens", "at least one token is needed"
    yield from position_problems(window)
    values = np.asarray(window.activations)
    if len(values) != len(window.tokens.token_ids):
        yield "activations", f"{len(values)} values for {len(window.tokens.token_ids)} tokens"
    elif not (np.all(np.isfinite(values)) and np.all(values >= 0)):
        yield "activations", "must be finite and >= 0"
    if not 0 < window.inclusion_probability <= 1:
        yield "inclusion_probability", "must be in (0, 1]"
