"""Rows of a made comparison, whose truth is known: `b` is 0.1 above `a` on the metric that
is named first, by noise alone different on the others."""

from __future__ import annotations

import random
from typing import Any

from services.cli.comparison.model import Question
from services.cli.comparison.rows import Cost, Row, Value

PRIMARY = "corpus.f1"
FEATURES = [f"saes/demo/features/{index}" for index in range(24)]


def question(**changes: Any) -> Question:
    """The question that the rows answer."""
    fields: dict[str, Any] = {
        "explainers": ["a", "b"],
        "features": FEATURES,
        "primary": PRIMARY,
        "seed": 7,
        "replicates": 500,
        **changes,
    }
    return Question(**fields)


def row(explainer: str, feature: str, **changes: Any) -> Row:
    """A run that went well."""
    rng = random.Random(feature)
    hard = rng.uniform(0.2, 0.7)
    noise = random.Random(f"{feature}/{explainer}")
    better = 0.1 if explainer == "b" else 0.0
    fields: dict[str, Any] = {
        "explainer": explainer,
        "feature": feature,
        "name": f"projects/default/explanations/{explainer}-{feature.rpartition('/')[2]}",
        "stratum": "eligible" if int(feature.rpartition("/")[2]) % 3 else "dense",
        "outcome": "explained",
        "label": "a label",
        "values": {
            PRIMARY: Value(
                hard + better + noise.uniform(-0.02, 0.02),
                baselines={"top_token": 0.1, "token_table": 0.5},
                judge="pattern",
            ),
            "corpus.recall": Value(noise.uniform(0, 1), insensitive=True),
            "detection.accuracy": Value(noise.uniform(0, 1)),
        },
        "cost": Cost(900, 1_000, 400, 0.01, "USD", 3.5)
        if explainer == "b"
        else Cost(0, 0, 0, 0.0, "", 1.5),
        **changes,
    }
    return Row(**fields)


def rows(**changes: Any) -> list[Row]:
    """A row per explainer and feature; `changes` are of the first feature of `a`."""
    made = [row(explainer, feature) for explainer in ("a", "b") for feature in FEATURES]
    made[0] = row("a", FEATURES[0], **changes)
    return made
