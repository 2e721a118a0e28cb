"""Generative and input scores: what happens to texts that were not measured, that the
verifier throws out, or that lie on a threshold."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_UNDEFINED
from saexplain.common.v1.window_pb2 import SPLIT_EXPLAIN, SPLIT_UNSPECIFIED, WINDOW_STRATEGY_TOP
from saexplain.scorer.v1.scorer_pb2 import (
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    Prediction,
    ScoreRequest,
    WrittenText,
)
from services.common.errors import InvalidArgument
from services.common.tensors import to_tensor
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.generative import Generative
from services.scorer.methods.input import Input
from tests.scorer import world

REF = world.REFERENCE_MAX


def request(texts: dict[str, tuple[str, float]], method: str, judge: str = "llm") -> ScoreRequest:
    """Texts by id with their measured share, as a score request."""
    planned = [
        WrittenText(id=i, text=t, intended_active="boundary" not in i)
        for i, (t, _) in texts.items()
    ]
    encoded = world.encode(planned)
    for entry, (_, share) in zip(encoded, texts.values(), strict=True):
        values = np.zeros((len(entry.tokens.token_ids), 1), np.float32)
        values[-1] = share * REF
        entry.activations.CopyFrom(to_tensor(values))
    return ScoreRequest(
        options=world.options(method, judge=judge),
        explanation=world.explanation(),
        facts=world.facts(),
        windows=[e for e in world.lists() if e.selection.split == SPLIT_EXPLAIN],
        texts=planned,
        encoded_texts=encoded,
    )


def positives(*shares: float) -> dict[str, tuple[str, float]]:
    return {f"positive.{i}": (f"text {i} alpha", s) for i, s in enumerate(shares)}


def score(method, sent: ScoreRequest) -> dict:
    return world.by_metric(method.score(sent))


def test_the_share_of_texts_at_or_above_either_threshold():
    """Guards against one threshold under the other's name: half of the mean of the ten
    strongest exemplars lies below half of the strongest."""
    sent = request(positives(0.9, 0.6, 0.49, 0.2), "generative")
    top = next(e for e in sent.windows if e.selection.strategy == WINDOW_STRATEGY_TOP)
    del top.windows[10:]
    for rank, window in enumerate(top.windows):
        window.activations[:] = [0.0] * (world.WINDOW - 1) + [REF * (1.0 if rank < 5 else 0.6)]
    scores = score(Generative(), sent)
    assert scores["accuracy_max"].value == 0.5
    assert scores["accuracy_mean"].value == 0.75, "threshold 0.5 * mean(1.0, 0.6) = 0.4"
    assert scores["accuracy_max"].interval.kind == "wilson"
    assert (scores["accuracy_max"].positive_count, scores["accuracy_max"].negative_count) == (2, 2)
    assert scores["accuracy_max"].split == SPLIT_UNSPECIFIED


def test_texts_in_the_band_of_rounding_have_no_verdict():
    """Guards against a verdict that another backend would turn round."""
    scores = score(Generative(), request(positives(0.9, 0.50005, 0.1), "generative"))
    assert scores["accuracy_max"].value == 0.5
    assert scores["accuracy_mean"].value is not None


def test_a_text_that_was_not_measured_counts_in_neither_direction():
    """Guards against a missing measurement that reads as silence."""
    sent = request(positives(0.9, 0.9, 0.0), "generative")
    del sent.encoded_texts[2]
    accuracy = score(Generative(), sent)["accuracy_max"]
    assert accuracy.value == 1.0 and accuracy.failed_count == 1
    del sent.encoded_texts[:]
    nothing = score(Generative(), sent)["accuracy_max"]
    assert nothing.status == SCORE_STATUS_UNDEFINED and nothing.failed_count == 3


def test_positions_that_are_not_scored_do_not_count():
    """Guards against the attention sink, whose value is no activation of the feature."""
    sent = request(positives(0.1), "generative")
    values = np.zeros((len(sent.encoded_texts[0].tokens.token_ids), 1), np.float32)
    values[0] = 100 * REF
    sent.encoded_texts[0].activations.CopyFrom(to_tensor(values))
    sent.encoded_texts[0].scored_begin = 1
    assert score(Generative(), sent)["accuracy_max"].value == 0.0


def test_a_composed_text_whose_tokens_no_longer_match_is_invalid():
    """Guards against blaming the explanation for how the tokenizer cut a text."""
    texts = {"positive.0": ("with an alpha", 0.9), "positive.1": ("with analpha", 0.0)}
    accuracy = score(Generative(), request(texts, "generative", "pattern"))["accuracy_max"]
    assert accuracy.value == 1.0 and accuracy.invalid_count == 1


def boundaries(*shares: float) -> dict[str, tuple[str, float]]:
    return {f"boundary.{i}": (f"text {i} alphas", s) for i, s in enumerate(shares)}


def verdicts(sent: ScoreRequest, **wrong: object) -> ScoreRequest:
    """Adds the verifier's answers: right, but for those named."""
    for text in sent.texts:
        said = wrong.get(text.id.replace(".", "_"), text.intended_active)
        if said is None:
            failed = Prediction(item_id=text.id, status=PREDICTION_STATUS_FAILED)
            sent.predictions.append(failed)
        else:
            sent.predictions.append(
                Prediction(item_id=text.id, status=PREDICTION_STATUS_OK, covered=said)
            )
    return sent


def test_coverage_boundary_and_their_harmonic_mean():
    """Guards against swapped sides, and rejection at 0.5 under the name of 0.1."""
    sent = verdicts(
        request(positives(0.9, 0.8, 0.2, 0.7) | boundaries(0.0, 0.3, 0.05, 0.6), "input")
    )
    scores = score(Input(), sent)
    assert scores["coverage"].value == 0.75
    assert scores["boundary"].value == 0.75
    assert scores["boundary_tenth"].value == 0.5
    assert scores["input"].value == 0.75
    assert (scores["input"].positive_count, scores["input"].negative_count) == (4, 4)
    low, high = scores["input"].interval.low, scores["input"].interval.high
    assert low < 0.75 < high


def test_what_the_verifier_disagrees_with_or_leaves_open_does_not_count():
    """Guards against far-off boundaries that count as rejected, and against a failed
    verdict that counts as a disagreement."""
    texts = positives(0.9, 0.1, 0.1) | boundaries(0.0, 0.9, 0.9)
    sent = verdicts(
        request(texts, "input"),
        positive_1=False,
        positive_2=None,
        boundary_1=True,
        boundary_2=None,
    )
    scores = score(Input(), sent)
    assert scores["coverage"].value == scores["boundary"].value == 1.0
    assert scores["input"].invalid_count == 2 and scores["input"].failed_count == 2
    reasons = {r.item: r.excluded_reason for r in Input().score(sent).rows}
    assert reasons["positive.0"] == ""
    assert reasons["positive.1"] == "the verifier disagrees with its intention"
    assert reasons["positive.2"] == "not verified"


async def test_an_unrelated_part_lowers_coverage_and_the_ceiling_stays():
    """Guards against a ceiling that depends on the explanation."""
    right = world.by_metric(await run(world.explanation()))
    wrong = world.by_metric(await run(world.explanation(*world.STRENGTHS, world.UNRELATED)))
    assert right["coverage"].value == 1.0 and wrong["coverage"].value == pytest.approx(0.75)
    assert right["ceiling"].value == wrong["ceiling"].value == 1.0
    assert right["corpus_recall"].value == wrong["corpus_recall"].value == 1.0


async def run(explained):
    return await world.run(Input(), PatternJudge(), PatternWriter(), explained, "input")


async def test_baselines_stand_on_texts_of_their_own():
    """Guards against baselines that are scored on the explanation's texts."""
    result = await run(world.explanation())
    scores = world.by_metric(result)
    coverage = {b.name: b for b in scores["coverage"].baselines}
    assert coverage["top_token"].value == 1.0 and coverage["constant"].value == 0.0
    assert "no other feature" in coverage["other_feature"].undefined_reason
    boundary = {b.name: b for b in scores["boundary"].baselines}
    assert not boundary["constant"].HasField("value"), "nothing is outside of everything"
    prefixes = {r.item.split("/")[0] for r in result.rows if "/positive." in r.item}
    assert prefixes == {"constant", "top_token", "token_table"}


def test_measurements_that_do_not_fit_the_texts_are_refused():
    """Guards against values of another feature or text that line up by accident."""
    for change in (
        lambda r: r.encoded_texts[0].activations.CopyFrom(
            to_tensor(np.zeros((len(r.encoded_texts[0].tokens.token_ids), 2), np.float32))
        ),
        lambda r: setattr(r.encoded_texts[0], "text_index", 7),
        lambda r: setattr(r.encoded_texts[0], "text_index", -1),
        lambda r: setattr(r.texts[1], "id", "positive.0"),
        lambda r: r.encoded_texts[0].activations.CopyFrom(
            to_tensor(np.full((len(r.encoded_texts[0].tokens.token_ids), 1), np.nan, np.float32))
        ),
    ):
        sent = request(positives(0.9, 0.9), "generative")
        change(sent)
        with pytest.raises(InvalidArgument):
            Generative().score(sent)
