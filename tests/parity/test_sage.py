"""SAGE's scores (arXiv 2511.20820, its code and a replication) on the committed vectors."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.methods.generative import accuracy
from services.scorer.statistics import bands, expected, scale
from services.scorer.statistics.correlation import mean_per_example, pearson, per_example
from services.scorer.statistics.published import sage
from tests.parity.vectors import cases, same

SPECIAL = frozenset(
    (
        "<|endoftext|>",
        "<|eot_id|>",
        "<|eot|>",
        "<eos>",
        "</s>",
        "<|begin_of_text|>",
        "<|beginoftext|>",
        "<|begin|>",
        "<|startoftext|>",
        "<|start_of_text|>",
        "<|start|>",
        "<bos>",
        "<s>",
        "<pad>",
        "<unk>",
        "<mask>",
        "<sep>",
        "<cls>",
    )
)
"""The reference drops these itself; our activation service never lists special tokens."""


def spoken(tokens: list[str], values: list[float]) -> np.ndarray:
    pairs = zip(tokens, values, strict=False)
    return np.array([v for t, v in pairs if t.strip().lower() not in SPECIAL], np.float64)


@pytest.mark.parametrize(("case", "tolerance"), cases("sage_generative_accuracy"))
def test_generative_accuracy_at_both_thresholds(case, tolerance):
    """Guards against the one threshold under the other's name, and > for >=."""
    maxima = np.array(case["inputs"]["exemplar_max_activations"])
    texts = case["inputs"]["generated"]
    largest = np.array([max([0.0, *spoken(t["tokens"], t["values"])]) for t in texts])
    for name, threshold_of in (
        ("code", scale.threshold_of_mean),
        ("paper", scale.threshold_of_max),
    ):
        wanted = case["expected"][name]
        if not maxima.size:
            # The code falls back to a fixed threshold, the replication refuses; so do we.
            with pytest.raises(ValueError, match="no exemplar"):
                threshold_of(maxima)
            continue
        threshold = threshold_of(maxima)
        assert same(threshold, wanted["threshold"], tolerance)
        assert (largest >= threshold).tolist() == wanted["success"]
        got = accuracy(largest, threshold)
        # No text at all is 0.0 there and undefined here: nothing was measured.
        assert same(got, wanted["accuracy"] if texts else None, tolerance)


def padded(example: dict) -> tuple[np.ndarray, np.ndarray]:
    """The reference pads predictions with 0 or cuts them; ours of another length are FAILED
    (`Predictions.shares`), so the padding belongs to this harness."""
    actual = np.array(example["actual"], np.float64)
    predicted = np.zeros_like(actual)
    kept = example["predicted"][: len(actual)]
    predicted[: len(kept)] = kept
    return predicted, actual


@pytest.mark.parametrize(("case", "tolerance"), cases("sage_predictive_pearson"))
def test_predictive_pearson_pooled_and_per_example(case, tolerance):
    """Guards against averaging under the name of pooling; they can differ in sign."""
    pairs = [padded(e) for e in case["inputs"]["examples"]]
    pairs = [(p, a) for p, a in pairs if a.size]
    wanted = case["expected"]
    if wanted["pooled"]["skipped"]:
        # Reported as 0.0 there; `predictive` leaves fewer than five exemplars undefined.
        assert len(pairs) < 5 and wanted["pooled"]["correlation"] == 0.0
        return
    predicted, actual = [p for p, _ in pairs], [a for _, a in pairs]
    pooled = pearson(np.concatenate(predicted), np.concatenate(actual))
    assert same(pooled, wanted["pooled"]["correlation"], tolerance)
    means = wanted["mean_per_example"]
    assert same(mean_per_example(predicted, actual), means["correlation"], tolerance)
    each = per_example(predicted, actual)
    assert each == pytest.approx(means["per_example"], abs=tolerance["abs"])
    assert len(each) == means["valid_examples"]


@pytest.mark.parametrize(("case", "tolerance"), cases("sage_expected_activation"))
def test_expected_activation_from_digits(case, tolerance):
    """Guards against other spellings, summing two of them, and 0 for "no number"."""
    candidates = case["inputs"]["top_logprobs"] or []
    probabilities = expected.stripped_digits((t, p) for t, p in candidates)
    got, wanted = expected.expected_value(probabilities), case["expected"]
    if wanted.get("error") == "ZeroDivisionError":
        assert got.value is None and "underflows" in got.reason
    elif "error" in wanted:
        # A superscript raises there; here it is no number, and the others count.
        assert same(got, 3.0, tolerance) and list(probabilities) == [3]
    else:
        named = {str(k): p for k, p in probabilities.items()}
        assert named == pytest.approx(wanted["activation_probs"], abs=1e-9)
        known = bool(probabilities)
        assert same(got, wanted["expected_activation"] if known else None, tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("sage_actual_normalisation"))
def test_activations_on_the_scale_to_ten(case, tolerance):
    """Guards against clipping, rounding or dropping negatives, none of which SAGE does."""
    inputs, wanted = case["inputs"], case["expected"]
    values = spoken(inputs["tokens"], inputs["values"])
    if inputs["normalize_to_0_10"]:
        values = scale.sage_scale(values, inputs["global_max_activation"])
    assert values.tolist() == pytest.approx(wanted["values"], abs=tolerance["abs"])
    assert same(values.max(initial=-np.inf) if values.size else 0.0, wanted["maxValue"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("sage_holdout_selection"))
def test_bands_and_counts_of_held_out_ranks(case, tolerance):
    """Guards against bands rounded in exact arithmetic. Our own draw comes from numpy's
    generator and keeps bands and counts; the published one is met rank by rank."""
    count, wanted = case["inputs"]["n_exemplars"], case["expected"]
    got = bands.rank_bands(count)
    assert {b: list(limits) for b, limits in got.items()} == wanted["bands"]
    ranks = bands.draw_ranks(count, case["inputs"]["python_random_seed"])
    drawn = {b: sum(low <= r < high for r in ranks) for b, (low, high) in got.items()}
    assert drawn == wanted["counts"]
    assert len(set(ranks)) == len(ranks) == len(wanted["selected"])
    assert bands.enough(count) == wanted["enough_for_the_evaluation"]
    published = sage.sage_draw(count, case["inputs"]["python_random_seed"])
    assert published == wanted["selected_by_band"]
