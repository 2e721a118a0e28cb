"""The pieces of the fit: rows agree with the evaluator, weights stand for the population."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1 import pattern_pb2 as pat
from saexplain.common.v1 import window_pb2
from services.agent.explainers.lexical import weights
from services.agent.explainers.lexical.coding import code_length
from services.agent.explainers.lexical.fit import lay_out
from services.agent.explainers.lexical.occurrences import Occurrences, Stretch, predictions
from services.agent.explainers.lexical.strengths import calibration, refit
from services.common.pattern import predict
from tests.agent.explainers.lexical import world
from tests.agent.explainers.lexical.test_explainer import two_triggers


def literal(text: str, **flags: bool) -> pat.TokenMatcher:
    return pat.TokenMatcher(literal=text.encode(), **flags)


RULES = [
    pat.PatternRule(token=literal(" the", ignore_case=True), strength=0.25),
    pat.PatternRule(
        token=pat.TokenMatcher(token_class=pat.TOKEN_CLASS_LINE_START),
        left=[pat.LeftCondition(max_distance=3, any_of=[literal("."), literal(",")])],
        strength=0.5,
    ),
    pat.PatternRule(
        token=pat.TokenMatcher(token_class=pat.TOKEN_CLASS_ANY),
        left=[
            pat.LeftCondition(max_distance=1, any_of=[literal(" of")]),
            pat.LeftCondition(
                max_distance=8,
                any_of=[pat.TokenMatcher(token_class=pat.TOKEN_CLASS_DIGITS)],
                negated=True,
            ),
        ],
        strength=0.75,
    ),
]


@pytest.mark.parametrize(
    "token_class", [c for c in pat.TokenClass.values() if c], ids=pat.TokenClass.Name
)
@pytest.mark.parametrize("position", [0, world.LEFT, 50])
def test_rows_are_of_a_class_where_the_evaluator_says(token_class: int, position: int) -> None:
    """Classes that depend on the place are told twice, here and in the evaluator."""
    left = 0 if position == 0 else world.LEFT
    stretches = [
        Stretch(
            "a", "d", world.span(tokens[left:]), world.span(tokens[:left]), position, zeros, zeros
        )
        for tokens in [*world.corpus(windows=40), ["almost", "x", "\n", " very"] * 8]
        for zeros in [np.zeros(len(tokens) - left)]
    ]
    rows = Occurrences.of(stretches)
    rule = pat.PatternRule(token=pat.TokenMatcher(token_class=token_class), strength=1)
    pattern = pat.Pattern(parts=[pat.PatternPart(rules=[rule])])
    theirs = [predict(pattern, s.tokens, s.left, s.position) > 0 for s in rows.stretches]
    assert rows.rule_mask(rule).tolist() == np.concatenate(theirs).tolist()


def test_rows_predict_what_the_evaluator_predicts() -> None:
    """The fit and the score must read a rule alike."""
    rows = lay_out(world.evidence(two_triggers))
    mine = predictions(rows, RULES)
    pattern = pat.Pattern(parts=[pat.PatternPart(rules=RULES)])
    theirs = np.concatenate(
        [predict(pattern, s.tokens, s.left, s.position) for s in rows.stretches]
    )
    assert (mine > 0).sum() > 100
    np.testing.assert_allclose(mine, theirs)


def test_weights_add_up_to_the_population() -> None:
    rows = lay_out(world.evidence(two_triggers))
    total = rows.weight.sum()
    assert total == pytest.approx(2500 * world.LENGTH, rel=0.02)


def test_active_rows_are_counted_once_though_two_lists_sample_them() -> None:
    """A window in RANDOM_ACTIVE and QUANTILE must not weigh twice."""
    given = world.evidence(two_triggers)
    once = lay_out(given).weight.sum()
    again = given.windows.add()
    again.CopyFrom(given.windows[1])
    again.selection.strategy = window_pb2.WINDOW_STRATEGY_QUANTILE
    assert lay_out(given).weight.sum() == pytest.approx(once)


def test_near_misses_sharpen_peak_tokens_and_weigh_nothing_elsewhere() -> None:
    given = world.evidence(two_triggers)
    missed = {w.name for w in given.windows[3].windows}
    silent = {w.name for w in given.windows[2].windows}
    only = [s for s in weights.stretches(given) if s.name in missed - silent]
    peaks = {w.tokens.token_bytes[int(np.argmax(w.activations))] for w in given.windows[0].windows}
    for stretch in only:
        at_peaks = np.array([t in peaks for t in stretch.tokens.token_bytes])
        assert (stretch.weights[at_peaks] > 0).all() and not stretch.weights[~at_peaks].any()


def test_code_length_is_the_adaptive_code_spelled_out() -> None:
    """Independent formula: the product of predictive probabilities, row after row."""
    seen, nats = np.zeros(4), 0.0
    for level in [0, 0, 3, 1, 0, 3]:
        nats -= np.log((seen[level] + 0.5) / (seen.sum() + 2))
        seen[level] += 1
    assert code_length(seen) == pytest.approx(nats)


def test_refitted_strengths_are_weighted_means_of_the_rows_a_rule_decides() -> None:
    rows = lay_out(world.evidence(two_triggers))
    rule = pat.PatternRule(token=literal(" very"), strength=1.0)
    (fitted,) = refit(rows, [rule])
    mask = rows.rule_mask(rule)
    mean = float(rows.weight[mask] @ rows.share[mask] / rows.weight[mask].sum())
    assert fitted.strength == pytest.approx(mean, rel=0.02) and fitted.strength < mean
    assert fitted.support == mask.sum()


def test_calibration_puts_the_best_threshold_at_one_half() -> None:
    rows = lay_out(world.evidence(two_triggers))
    rules = refit(rows, [pat.PatternRule(token=literal(" very"), strength=1.0)])
    predicted = predictions(rows, rules) * 0.3
    factor = calibration(rows, predicted)
    assert 0.5 < predicted.max() * factor <= 1.0
    assert calibration(rows, predicted * factor) == 1.0
