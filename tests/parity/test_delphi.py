"""EleutherAI's delphi on the committed vectors: detection and fuzzing, sampling, simulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.scorer.statistics import expected
from services.scorer.statistics.published import delphi
from tests.parity.vectors import cases, same

COUNTS = {
    "tp": "true_positives",
    "tn": "true_negatives",
    "fp": "false_positives",
    "fn": "false_negatives",
}


def confused(rows: list[dict], threshold: float = 0.5) -> delphi.Confusion:
    return delphi.delphi_confusion(
        [r["prediction"] for r in rows], [r["activating"] for r in rows], threshold
    )


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_classification_metrics"))
def test_classification_metrics(case, tolerance):
    """Guards against averaging over one class, failures counted as wrong, and a threshold
    that leaves its own value out."""
    rows, wanted = case["inputs"]["rows"], case["expected"]
    confusion = confused(rows, case["inputs"]["threshold"])
    for ours, theirs in COUNTS.items():
        assert getattr(confusion, ours) == wanted["confusion"][theirs]
    # `failed_count` is always 0 there; ours is the truth.
    assert confusion.failed == sum(r["prediction"] is None for r in rows)
    for name, value in delphi.delphi_metrics(confusion).items():
        assert same(value, wanted["metrics"][name], tolerance), name
    auc = delphi.delphi_auc([r["probability"] for r in rows], [r["activating"] for r in rows])
    assert same(auc, wanted["auc"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_classifier_reply"))
def test_classifier_reply(case, tolerance):
    """Guards against half-read batches: one that does not fit fails as a whole."""
    shown, wanted = case["inputs"]["n_examples_shown"], case["expected"]
    rows = []
    for batch, expected_rows in zip(case["inputs"]["batches"], wanted["batches"], strict=True):
        tokens = None
        if case["inputs"]["log_prob"]:
            tokens = [(t["token"], t["top"]) for t in batch["logprobs"]]
        read = delphi.delphi_labels(batch["reply"], shown, tokens)
        for place, (activating, row) in enumerate(
            zip(batch["activating"], expected_rows, strict=True)
        ):
            label, probability = (None, None) if read is None else (read[0][place], read[1][place])
            prediction = None if label is None else bool(label)
            assert prediction == row["prediction"]
            if label is not None:
                assert (label == activating) == row["correct"]
            assert same(probability, row["probability"], tolerance)
            rows.append(
                {"activating": activating, "prediction": prediction, "probability": probability}
            )
    metrics = delphi.delphi_metrics(confused(rows))
    assert same(metrics["accuracy"], wanted["balanced_accuracy"], tolerance)
    assert same(metrics["f1_score"], wanted["f1_score"], tolerance)
    auc = delphi.delphi_auc([r["probability"] for r in rows], [r["activating"] for r in rows])
    assert same(auc, wanted["auc"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_expected_activation"))
def test_expected_activation(case, tolerance):
    """Guards against the spellings that count elsewhere, and two of them summed."""
    wanted = case["expected"]
    kept = delphi.delphi_expected_digits(case["inputs"]["top_logprobs"])
    got = expected.expected_value(kept)
    if "error" in wanted:
        assert got.value is None and "underflows" in got.reason
        return
    assert {str(k): p for k, p in kept.items()} == pytest.approx(wanted["unnormalised"], abs=1e-9)
    # "No number" is 0.0 there and undefined here.
    assert same(got, wanted["expected_value"] if kept else None, tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_normalize_activations"))
def test_ceiled_scale(case, tolerance):
    """Guards against double precision, in which another integer comes out."""
    inputs = case["inputs"]
    got = [
        delphi.delphi_scale(np.array(e, np.float64), inputs["max_activation"]).tolist()
        for e in inputs["examples"]
    ]
    assert got == case["expected"]["normalized"]


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_frequency_weighted_f1"))
def test_frequency_weighted_f1(case, tolerance):
    """Guards against a mean over latents, or modules without firings counted as 0."""
    rows, wanted = case["inputs"]["rows"], case["expected"]
    latents = dict.fromkeys((r["module"], r["latent_idx"]) for r in rows)
    f1 = {
        key: delphi.delphi_metrics(
            confused([r for r in rows if (r["module"], r["latent_idx"]) == key])
        )["f1_score"]
        for key in latents
    }
    got = delphi.delphi_frequency_weighted_f1(f1, case["inputs"]["firing_counts"])
    assert same(got, None if "error" in wanted else wanted["weighted_f1"], tolerance)
    for row in wanted.get("per_latent", []):
        assert same(f1[row["module"], row["latent_idx"]], row["f1_score"], {"abs": 1e-12})


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_quantile_sampling"))
def test_quantile_sampling(case, tolerance):
    """Guards against quantiles that see the weakest remainder, and other draws than
    CPython's."""
    inputs, wanted = case["inputs"], case["expected"]
    count, quantiles, ratio = inputs["n_examples"], inputs["n_quantiles"], inputs["ratio_top"]
    if inputs["kind"] == "train_and_test":
        drawn = [
            delphi.delphi_sample("quantiles", count, quantiles, n, ratio)[0]
            for n in inputs["n_samples"]
        ]
        assert drawn == [wanted["train_indices"], wanted["test_indices"]]
        assert len(set(drawn[0]) & set(drawn[1])) == wanted["overlap"]
        return
    kind = inputs["kind"].replace("split_quantiles", "quantiles")
    ranks, of_each = delphi.delphi_sample(
        kind, count, quantiles, inputs["n_samples"], ratio, inputs["seed"]
    )
    assert ranks == wanted["indices"]
    assert of_each == wanted["quantile_of_each"]
    assert {str(q): n for q, n in Counter(of_each).items()} == wanted["count_per_quantile"]
    assert len(ranks) == wanted["total"]


def check_groups(sequences: list[delphi.Simulated], wanted: list[dict], tolerance: dict) -> None:
    groups = delphi.delphi_groups(sequences)
    assert [d for d, _, _ in groups] == [g["distance"] for g in wanted]
    for (_, members, pooled), group in zip(groups, wanted, strict=True):
        assert len(members) == group["sequence_count"]
        assert same(pooled, group["ev_correlation_score"], tolerance)
        for member, sequence in zip(members, group["sequences"], strict=True):
            distance = -1 if member.quantile is None else member.quantile
            assert distance == sequence["distance"]
            own = delphi.pooled_pearson([member])
            assert same(own, sequence["ev_correlation_score"], tolerance)


def simulated(quantile: int | None, true: list, predicted: list) -> delphi.Simulated:
    return delphi.Simulated(quantile, np.array(true, np.float64), np.array(predicted, np.float64))


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_simulation_correlation"))
def test_simulation_correlation_by_group(case, tolerance):
    """Guards against means over sequences, and an overall group where none is silent."""
    inputs = case["inputs"]
    sequences = [simulated(s["quantile"], s["true"], s["predicted"]) for s in inputs["activating"]]
    sequences += [simulated(None, s["true"], s["predicted"]) for s in inputs["non_activating"]]
    check_groups(sequences, case["expected"]["groups"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("delphi_simulation_pipeline"))
def test_simulation_from_raw_activations(case, tolerance):
    """Guards against raw activations as the truth; what is sent as silent is taken as 0,
    whatever was measured there."""
    inputs = case["inputs"]
    sequences = []
    for s in inputs["activating"]:
        true = delphi.delphi_scale(np.array(s["activations"]), inputs["max_activation"])
        sequences.append(simulated(s["quantile"], true.tolist(), s["predicted"]))
    for s in inputs["non_activating"]:
        sequences.append(simulated(None, [0] * len(s["activations"]), s["predicted"]))
    truths = [s.true.tolist() for s in sequences]
    assert truths == case["expected"]["true_activations_scored_against"]
    check_groups(sequences, case["expected"]["groups"], tolerance)
