"""The choice between candidates: F1 by hand, on windows with known weights."""

from __future__ import annotations

import pytest

from saexplain.activation.v1 import activation_pb2
from saexplain.common.v1 import explanation_pb2, window_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.orchestrator import selecting


def window(name: str, maximum: float, probability: float) -> window_pb2.Window:
    """A window of SELECT."""
    return window_pb2.Window(
        name=name,
        max_activation=maximum,
        inclusion_probability=probability,
        split=window_pb2.SPLIT_SELECT,
    )


LISTS = [
    activation_pb2.WindowList(windows=[window("a", 10, 0.5), window("b", 3, 0.5)]),
    activation_pb2.WindowList(windows=[window("c", 0, 0.1)]),
]


def test_f1_weighs_a_window_by_its_inclusion_probability() -> None:
    """By hand: hit a (2), wrong on c (10): 2*2 / (2*2 + 10) = 2/7. Unweighted it would
    be 2/3: the gap is what natural prevalence is about."""
    windows = selecting.all_windows(LISTS)
    f1 = selecting.corpus_f1(windows, {"a": 0.9, "b": 0.1, "c": 0.8}, 10.0, 0.5)
    assert f1 == pytest.approx(2 / 7)


def test_a_window_without_a_prediction_is_neither_wrong_nor_silent() -> None:
    """Guards against unparsed replies that count as misses."""
    windows = selecting.all_windows(LISTS)
    assert selecting.corpus_f1(windows, {"a": 0.9}, 10.0, 0.5) == 1.0
    assert selecting.corpus_f1(windows, {}, 10.0, 0.5) is None


def test_a_judged_sample_stands_for_its_whole_list() -> None:
    """Guards against a subsample that keeps the weights of the whole: they must add up to
    the same total."""
    many = activation_pb2.WindowList(windows=[window(f"w{i}", 1, 0.25) for i in range(48)])
    sample = selecting.judged_windows([many], seed=3)
    assert len(sample) == selecting.JUDGED_PER_LIST
    assert sum(weight for _, weight in sample) == pytest.approx(48 / 0.25)
    assert sample == selecting.judged_windows([many], seed=3)


def candidate(number: int, score: float | None, status: str = "EXPLAINED") -> dossier_pb2.Candidate:
    """A candidate of a round."""
    made = dossier_pb2.Candidate(round=number)
    made.explanation.status = explanation_pb2.ExplanationStatus.Value(
        f"EXPLANATION_STATUS_{status}"
    )
    if score is not None:
        made.select_score = score
    return made


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([candidate(1, 0.9), candidate(2, 0.4)], 0),
        ([candidate(1, 0.5), candidate(2, 0.5)], 1),
        ([candidate(1, None), candidate(2, 0.0)], 1),
        ([candidate(1, 0.2), candidate(2, None, "NO_EXPLANATION")], 0),
        ([], None),
    ],
)
def test_the_best_on_select_is_chosen(
    candidates: list[dossier_pb2.Candidate], chosen: int | None
) -> None:
    """Guards against the last round winning because it is the last."""
    assert selecting.choose(candidates) == chosen
