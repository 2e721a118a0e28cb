"""Neuronpedia's autointerp service on the committed vectors."""

from __future__ import annotations

import numpy as np
import pytest

from services.scorer.statistics.published import neuronpedia as np_
from tests.parity.vectors import cases, same


@pytest.mark.parametrize(("case", "tolerance"), cases("neuronpedia_classifier_reply"))
def test_reply_of_five_labels(case, tolerance):
    """Guards against a short batch read leniently where the service drops it."""
    wanted, predictions, truths, correct = case["expected"], [], [], []
    for batch, expected in zip(case["inputs"]["batches"], wanted["predictions"], strict=True):
        labels = np_.neuronpedia_labels(batch["reply"], len(batch["ground_truth"]))
        assert labels == expected
        predictions += labels
        truths += batch["ground_truth"]
        correct += [p == t for p, t in zip(labels, batch["ground_truth"], strict=True)]
    error = isinstance(wanted["score"], dict)
    got = np_.neuronpedia_score(predictions, truths)
    assert same(got, None if error else wanted["score"], tolerance)
    assert np_.neuronpedia_wire(predictions) == wanted["wire_prediction"]
    assert correct == wanted["wire_correct"]


@pytest.mark.parametrize(("case", "tolerance"), cases("neuronpedia_fuzz_detection"))
def test_fuzzing_and_detection_score(case, tolerance):
    """Guards against delphi's convention for a missing class, and failures as answers."""
    examples, wanted = case["inputs"]["examples"], case["expected"]
    got = np_.neuronpedia_score(
        [e["prediction"] for e in examples], [e["ground_truth"] for e in examples]
    )
    assert same(got, None if "error" in wanted else wanted["score"], tolerance)


@pytest.mark.parametrize(("case", "tolerance"), cases("neuronpedia_embedding_auroc"))
def test_embedding_auroc(case, tolerance):
    """Guards against a folded area, and a maximum instead of a sum as the truth."""
    examples, wanted = case["inputs"]["examples"], case["expected"]
    values = [np.array(e["values"]) for e in examples]
    got = np_.neuronpedia_embedding(np.array([e["similarity"] for e in examples]), values)
    assert same(got, None if "error" in wanted else wanted["score"], tolerance)
    if "positives" in wanted:
        assert sum(v.sum() > 0 for v in values) == wanted["positives"]
