"""The ladder of negatives: rungs apart, matched, and minimal pairs that are measured."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.window_pb2 import WINDOW_STRATEGY_NEAR_MISS, Window
from saexplain.scorer.v1.scorer_pb2 import PlanScoreRequest, ScoreRequest
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.ladder import Ladder, matched
from services.scorer.methods.pairs import make_pairs
from services.scorer.texts import MeasuredTexts
from tests.scorer import world

NEAR = ("rejection_lexical", "rejection_neighbor", "rejection_same_token")


async def score(*words, windows=None):
    result = await world.run(
        Ladder(),
        PatternJudge(),
        PatternWriter(),
        world.explanation(*words),
        "ladder",
        windows=windows,
    )
    return result, world.by_metric(result)


async def test_every_rung_is_a_number_of_its_own():
    """Guards against rungs that are pooled, and against windows on another's rung: with the
    unrelated word claimed, only one rung's windows are wrongly covered."""
    lists = world.lists()
    (near,) = (e for e in lists if e.selection.strategy == WINDOW_STRATEGY_NEAR_MISS)
    for place, window in enumerate(near.windows):
        holds = world.UNRELATED in window.tokens.token_bytes
        assert holds
        if place % 3 != 1:
            at = list(window.tokens.token_bytes).index(world.UNRELATED)
            window.tokens.token_bytes[at] = world.WORDS[0]
    result, scores = await score(*world.STRENGTHS, world.UNRELATED, windows=lists)
    rejections = {m: scores[m].value for m in NEAR}
    assert rejections == {
        "rejection_lexical": 1.0,
        "rejection_neighbor": 0.0,
        "rejection_same_token": 1.0,
    }
    assert scores["rejection_random"].value == pytest.approx(0.93, abs=0.07)
    assert scores["coverage"].value == 1.0 and scores["coverage"].positive_count == 30
    constant = {b.name: b.value for b in scores["rejection_random"].baselines}["constant"]
    assert constant == 0.0
    assert len({row.item for row in result.rows}) == len(result.rows)


async def test_minimal_pairs_are_negatives_only_where_both_ends_are_measured():
    """Guards against twins that still fire and count as negatives, or failed ones that
    count as rejected."""
    _, scores = await score()
    pair = scores["rejection_minimal_pair"]
    # Every second change is beside the peak, which this feature does not look at, and two
    # windows hold the weak word too.
    assert pair.value == 1.0 and (pair.negative_count, pair.invalid_count) == (8, 12)
    assert pair.positive_count == pair.failed_count == 0
    sent = {"windows": world.lists(), "facts": world.facts(), "explanation": world.explanation()}
    chosen = world.options("ladder")
    plan = await Ladder().plan(PlanScoreRequest(options=chosen, **sent), PatternWriter())
    unmeasured = ScoreRequest(options=chosen, texts=plan.texts, **sent)
    nothing = world.by_metric(Ladder().score(unmeasured))["rejection_minimal_pair"]
    assert nothing.status == SCORE_STATUS_UNDEFINED and nothing.failed_count == 20


async def test_a_text_that_is_cut_otherwise_is_no_pair():
    """Guards against a prediction for tokens that were never measured."""
    sent = {"windows": world.lists(), "facts": world.facts(), "explanation": world.explanation()}
    chosen = world.options("ladder")
    plan = await Ladder().plan(PlanScoreRequest(options=chosen, **sent), PatternWriter())
    encoded = world.encode(plan.texts)
    for text in encoded:
        text.tokens.token_ids[0] += 1
    request = ScoreRequest(options=chosen, texts=plan.texts, encoded_texts=encoded, **sent)
    assert len(MeasuredTexts(request).unverified("pair.").valid) == 40
    pair = world.by_metric(Ladder().score(request))["rejection_minimal_pair"]
    assert pair.invalid_count == 20 and pair.status == SCORE_STATUS_UNDEFINED


def window(name: str, source: str, kind: str, length: int) -> Window:
    return Window(name=name, source=source, kind=kind, tokens=world.span([b" x"] * length))


def test_negatives_are_matched_on_source_kind_and_length():
    """Guards against negatives that are told from active windows by what they are cut from."""
    active = [window("a", "page", "prose", 8)]
    others = [window(f"{i}", f"s{i}", "code", 8) for i in range(20)]
    near = [window("same", "page", "code", 3), window("kind", "s", "prose", 5)]
    length = [window("length", "s", "prose", 7)]
    found = matched(active, [*others, *near, *length], 3, seed=1)
    assert [w.name for w in found] == ["same", "length", "kind"]


def test_pairs_differ_in_one_token_that_is_written_alike():
    """Guards against pairs that differ by more than one edit, and windows that are no text."""
    firing = [w for w in world.population(1) if w.max_activation > 4][:10]
    silent = [w for w in world.population(1) if w.max_activation == 0][:10]
    broken = Window()
    broken.CopyFrom(firing[0])
    broken.tokens.token_bytes[0] = b"\xff"
    pairs = make_pairs([*firing, broken], silent, seed=3)
    assert len(pairs) == 10
    for number, pair in enumerate(pairs):
        before, after = pair.original.tokens.token_bytes, pair.twin.tokens.token_bytes
        (place,) = (i for i, (b, a) in enumerate(zip(before, after, strict=True)) if b != a)
        assert place == int(np.argmax(pair.original.activations)) - number % 2
        assert not pair.twin.activations
    assert make_pairs(firing, silent, seed=3) == pairs
