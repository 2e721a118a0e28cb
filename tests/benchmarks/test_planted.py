"""The planted benchmark on arrays of a few seconds: directions find what was planted, nulls
have nothing to find, and truth scores 1 against itself. Guards against a benchmark that passes
because its features are easier, or its nulls emptier, than it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.planted import directions, nulls
from benchmarks.planted.__main__ import Case, show
from benchmarks.planted.concepts import CONCEPTS
from benchmarks.planted.evaluate import Found, score
from saexplain.common.v1 import explanation_pb2 as ex
from saexplain.common.v1 import feature_pb2, window_pb2
from services.activation.encoder.rows import SparseRow, TokenRow
from tests.agent.explainers.lexical import world

TOKENS, WIDTH = 6_000, 24


def hidden_with(labels: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    """Noise with one direction per label added."""
    rng = np.random.default_rng(seed)
    added = rng.standard_normal((labels.shape[1], WIDTH))
    noise = rng.standard_normal((len(labels), WIDTH))
    return (noise + strength * labels @ added).astype(np.float16)


def activations(found: directions.Directions, hidden: np.ndarray) -> np.ndarray:
    pre = hidden.astype(np.float32) @ found.weights + found.bias
    return np.where(pre > directions.JUMP, pre, 0)


def test_a_planted_direction_is_found_and_jumps_at_one() -> None:
    labels = np.random.default_rng(1).random((TOKENS, 2)) < 0.02
    hidden = hidden_with(labels, 3.0)
    found = directions.fit_concepts(hidden, labels)
    fired = activations(found, hidden)
    assert (found.agreement > 0.9).all()
    for column, truth in zip(fired.T, labels.T, strict=True):
        assert ((column > 0) == truth).mean() > 0.995
        assert np.median(column[column > 0]) == pytest.approx(directions.MIDDLE, abs=0.02)


def test_a_label_without_a_direction_is_not_found() -> None:
    """The negative control: a probe with as many inputs as positives fits anything."""
    labels = np.random.default_rng(2).random((TOKENS, 1)) < 0.02
    found = directions.fit_concepts(hidden_with(labels, 0.0), labels)
    assert found.agreement[0] < 0.2


def test_random_directions_fire_as_often_as_they_should() -> None:
    hidden = hidden_with(np.zeros((TOKENS, 1), bool), 0.0)
    wanted = [0.002, 0.01]
    fired = activations(directions.random_directions(hidden, wanted, seed=3), hidden) > 0
    assert fired.mean(axis=0) == pytest.approx(wanted, rel=0.15)


class Marker:
    """Feature 0 fires at token id 7, feature 1 at 7 and 9, by the token's value."""

    feature_count = 2

    def encode_sparse(self, rows: list[TokenRow]) -> list[SparseRow]:
        found = []
        for row in rows:
            dense = np.stack([row == 7, np.isin(row, (7, 9))], axis=1) * (1.0 + row[:, None])
            dense[0] = 0
            tokens, features = np.nonzero(dense)
            counts = np.cumsum([0, *np.bincount(tokens, minlength=len(row))])
            found.append(
                SparseRow(
                    counts.astype(np.int64),
                    features.astype(np.int32),
                    dense[tokens, features].astype(np.float32),
                )
            )
        return found


def test_shuffling_keeps_values_and_other_features_and_moves_the_rest() -> None:
    rows = [np.array([0, *np.random.default_rng(i).integers(5, 12, 60)]) for i in range(6)]
    plain, mixed = Marker().encode_sparse(rows), nulls.Shuffling(Marker(), [1], 4)
    shuffled = mixed.encode_sparse(rows)
    moved = 0
    for before, after in zip(plain, shuffled, strict=True):
        assert after.indptr[1] == 0
        for feature in (0, 1):
            values = [np.sort(r.values[r.features == feature]) for r in (before, after)]
            assert values[0].tolist() == values[1].tolist()
        places = [np.repeat(np.arange(61), np.diff(r.indptr)) for r in (before, after)]
        kept = [p[r.features == 0].tolist() for p, r in zip(places, (before, after), strict=True)]
        assert kept[0] == kept[1]
        moved += places[0][before.features == 1].tolist() != places[1][after.features == 1].tolist()
    assert moved == len(rows)
    again = mixed.encode_sparse(rows)
    assert all(a.values.tolist() == b.values.tolist() for a, b in zip(shuffled, again, strict=True))


def test_a_small_dictionary_reconstructs_better_than_the_mean() -> None:
    rng = np.random.default_rng(5)
    atoms = rng.standard_normal((12, WIDTH))
    codes = (rng.random((2_000, 12)) < 0.15) * rng.uniform(1, 2, (2_000, 12))
    hidden = (codes @ atoms).astype(np.float16)
    tensors = nulls.train_sae(hidden, latents=32, k=4, seed=0)
    inputs = torch.from_numpy(hidden.astype(np.float32))
    pre = (inputs - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    top, places = torch.topk(pre, 4, dim=1)
    decoded = torch.zeros_like(pre).scatter(1, places, top.relu()) @ tensors["W_dec"]
    error = (decoded + tensors["b_dec"] - inputs).square().sum()
    assert error < 0.4 * (inputs - inputs.mean(dim=0)).square().sum()


def heldout() -> tuple[feature_pb2.FeatureFacts, list]:
    """Windows of a known rule, as the corpus score asks for them."""
    given = world.evidence(lambda tokens, i: float(tokens[i] == " very"))
    for listed in given.windows:
        listed.selection.split = window_pb2.SPLIT_HELDOUT
        for window in listed.windows:
            window.split = window_pb2.SPLIT_HELDOUT
    return given.facts, list(given.windows)


def test_truth_scores_one_and_silence_nothing() -> None:
    facts, windows = heldout()
    exact = score(facts, windows, lambda w: list(w.activations), seed=0)
    silent = score(facts, windows, lambda w: [0.0] * len(w.activations), seed=0)
    assert exact["f1"] == pytest.approx(1) and exact["pearson"] == pytest.approx(1)
    assert not silent["f1"] and silent["pearson"] is None


def case(kind: str, ours: float, status: int = ex.EXPLANATION_STATUS_EXPLAINED) -> Case:
    scores = {
        (who, against, metric): ours if who == "lexical" else 0.8
        for who in ("lexical", "oracle")
        for against in ("firing", "concept")
        for metric in ("f1", "pearson")
    }
    facts = feature_pb2.FeatureFacts(stratum=feature_pb2.FEATURE_STRATUM_ELIGIBLE)
    found = Found(0, facts, ex.Explanation(status=status), scores)
    return Case(kind, 0, found, CONCEPTS[0])


def test_both_bars_must_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """A table that always says `reached` would hide a loss."""
    empty = ex.EXPLANATION_STATUS_NO_EXPLANATION
    good = [case("language", 0.75), case("union", 0.75), case("outside", 0.1)]
    ended = [case("shuffled", 0.0, empty)] * 4
    assert show(good, [*ended, case("shuffled", 0.1)])
    assert not show(good, [*ended[:3], case("shuffled", 0.1)])
    assert not show([replace(c, found=case("language", 0.5).found) for c in good], ended)
    assert "NOT reached" in capsys.readouterr().out
