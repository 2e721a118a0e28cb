"""Guards the door: bad requests are INVALID_ARGUMENT with the field, and above all no
window of another split ever reaches an explainer."""

from __future__ import annotations

import pytest

from saexplain.agent.v1.agent_pb2 import Evidence, RunState
from saexplain.common.v1.window_pb2 import SPLIT_HELDOUT, SPLIT_SELECT
from services.agent.validate import MAX_WINDOWS, check_step
from services.common.errors import InvalidArgument
from tests.agent.builders import evidence, hypothesis, options, result, scope, state


def _fields(*, opts=None, where=None, seen=None, run=None, uses_llm=True) -> list[str]:
    with pytest.raises(InvalidArgument) as caught:
        check_step(opts or options(), where or scope(), seen or evidence(), run, uses_llm=uses_llm)
    return [violation.field for violation in caught.value.violations]


def _broken(change) -> Evidence:
    seen = evidence()
    change(seen)
    return seen


def test_a_good_request_passes() -> None:
    run = state([hypothesis("h1")], [result("p1.1", "h1", "Some text.")])
    check_step(options(), scope(), evidence(), run, uses_llm=True)


@pytest.mark.parametrize("split", [SPLIT_HELDOUT, SPLIT_SELECT, 0, 77])
def test_a_window_of_another_split_is_refused(split: int) -> None:
    seen = _broken(lambda e: setattr(e.windows[1].windows[0], "split", split))
    assert _fields(seen=seen) == ["evidence.windows[1].windows[0].split"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda w: w.activations.append(1.0), "activations"),
        (lambda w: w.activations.__setitem__(0, float("nan")), "activations"),
        (lambda w: w.activations.__setitem__(0, -1.0), "activations"),
        (lambda w: w.tokens.token_ids.append(1), "tokens"),
        (lambda w: w.left_context.token_ids.append(1), "left_context"),
        (lambda w: w.ClearField("name"), "name"),
    ],
)
def test_a_window_of_wrong_sizes_or_values_is_refused(change, field) -> None:
    seen = _broken(lambda e: change(e.windows[0].windows[0]))
    assert _fields(seen=seen) == [f"evidence.windows[0].windows[0].{field}"]


def test_too_many_windows_are_refused() -> None:
    seen = evidence()
    first = seen.windows[0].windows[0]
    seen.windows[0].windows.extend([first] * MAX_WINDOWS)
    assert _fields(seen=seen) == ["evidence.windows"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda o: setattr(o, "hypothesis_count", 13), "options.hypothesis_count"),
        (lambda o: setattr(o, "positive_probe_count", -1), "options.positive_probe_count"),
        (lambda o: setattr(o, "negative_probe_count", 25), "options.negative_probe_count"),
        (lambda o: o.ClearField("llm"), "options.llm"),
        (lambda o: setattr(o.llm, "model", ""), "options.llm.model"),
        (lambda o: setattr(o.llm, "temperature", 2.5), "options.llm.temperature"),
        (
            lambda o: setattr(o.llm, "max_output_token_count", 1),
            "options.llm.max_output_token_count",
        ),
    ],
)
def test_options_out_of_range_are_refused(change, field) -> None:
    wrong = options()
    change(wrong)
    assert _fields(opts=wrong) == [field]


def test_a_scope_is_needed_by_explainers_with_a_model_only() -> None:
    wrong = scope()
    wrong.owner = "somewhere"
    wrong.step = ""
    assert _fields(where=wrong) == ["scope.owner", "scope.step"]
    check_step(options("lexical"), wrong, evidence(), None, uses_llm=False)


@pytest.mark.parametrize(
    ("run", "field"),
    [
        (RunState(round=-1), "state.round"),
        (state([hypothesis("h1"), hypothesis("h1")]), "state.hypotheses"),
        (state([], [result("p1.1", "h1", "a"), result("p1.1", "h1", "b")]), "state.results"),
    ],
)
def test_a_broken_state_is_refused(run: RunState, field: str) -> None:
    assert _fields(run=run) == [field]


def test_a_feature_name_is_needed() -> None:
    seen = _broken(lambda e: setattr(e.facts, "feature", "features/1"))
    assert _fields(seen=seen) == ["evidence.facts.feature"]


def test_everything_wrong_is_told_at_once_but_not_without_end() -> None:
    seen = evidence()
    for listed in seen.windows:
        for window in listed.windows:
            window.split = SPLIT_HELDOUT
            del window.activations[:]
    assert len(_fields(seen=seen)) == 12
    seen.windows.extend(list(seen.windows) * 3)
    assert len(_fields(seen=seen)) == 20
