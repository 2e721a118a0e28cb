"""The SAE's card: its record (``card.json``) and the page made from it (``README.md``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FUNNEL_STAGES = ("dead", "too_rare", "eligible", "dense", "very_dense")


def add_funnel(folder: Path, counts: Mapping[str, int], index: Mapping[str, Any]) -> None:
    """Write the funnel of an index over the corpus into the card, and render the page anew.

    ``counts`` are the strata of the index's manifest (its ``funnel``): ``dead`` (fires at no
    scored token), ``very_dense`` (density > 0.1), ``dense`` (> 1e-2), and of the others
    ``eligible`` (at least 20 EXPLAIN and 20 HELDOUT documents at or above tau) or ``too_rare``.
    Every feature is in one. ``index`` says what was counted on: at least ``fingerprint``,
    ``documents`` and ``tokens``.

    Raises:
        ValueError: a stage is missing, or they don't add up to the SAE's features.
    """
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    missing = [stage for stage in FUNNEL_STAGES if stage not in counts]
    if missing:
        raise ValueError(f"the funnel lacks {', '.join(missing)}")
    features = sum(counts[stage] for stage in FUNNEL_STAGES)
    if features != card["sizes"]["d_sae"]:
        raise ValueError(f"the funnel counts {features} features, not {card['sizes']['d_sae']}")
    card["funnel"] = {"index": dict(index), **{stage: counts[stage] for stage in FUNNEL_STAGES}}
    write_card(folder, card)


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``card.json`` and the page rendered from it."""
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / "card.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(render(card), encoding="utf-8")


def render(card: Mapping[str, Any]) -> str:
    """The card as Markdown; every figure comes from the record."""
    sizes, training, held = card["sizes"], card["training"], card["held_out"]
    loss = held["cross_entropy_nats"]
    rows = [
        ("model", card["model"]),
        ("hook", f"`{card['hook_name']}` (output of decoder block {card['hook_layer']})"),
        ("architecture", f"TopK, k = {sizes['k']}, {sizes['d_sae']} latents on {sizes['d_in']}"),
        ("weights", f"{card['weights_dtype']} as shipped, loaded as float32"),
        ("contexts", f"{card['context_size']} tokens, BOS first, position 0 left out"),
        ("training", _training(training)),
        ("L0, held out", f"{held['l0']:.2f}"),
        ("explained variance, held out", f"{held['explained_variance']:.4f}"),
        ("the same, median token", f"{held['explained_variance_median_token']:.4f}"),
        ("dead on held-out text", f"{held['dead_share']:.2%} of latents"),
        ("cross-entropy recovered", _recovered(loss)),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    histogram = "\n".join(
        f"| {key} | {value} |" for key, value in held["density_histogram"].items()
    )
    return (
        "# The demo's sparse autoencoder\n\nWritten by `python -m demo.evaluate_sae`.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"Measured on {held['tokens']} tokens of {held['sources']} held-out sources "
        f"({loss['tokens']} for cross-entropy): {loss['original']:.3f} nats as it is, "
        f"{loss['sae']:.3f} rebuilt, {loss['mean_ablated']:.3f} at the mean activation, "
        f"{loss['zero_ablated']:.3f} at zero.\n\n"
        f"## Density on held-out text\n\n| share of tokens | latents |\n|---|---:|\n{histogram}\n"
        f"{_funnel(card)}"
    )


def _training(training: Mapping[str, Any]) -> str:
    return (
        f"{training['tokens_seen']} tokens seen in {training['steps']} steps, "
        f"{training['distinct_tokens']} distinct"
    )


def _recovered(loss: Mapping[str, Any]) -> str:
    return (
        f"{loss['recovered_of_mean']:.2%} of mean ablation, {loss['recovered_of_zero']:.2%} of zero"
    )


def _funnel(card: Mapping[str, Any]) -> str:
    funnel = card.get("funnel")
    if funnel is None:
        return ""
    rows = "\n".join(f"| {stage.replace('_', ' ')} | {funnel[stage]} |" for stage in FUNNEL_STAGES)
    index = funnel["index"]
    return (
        f"\n## Funnel\n\nOn index `{index['fingerprint']}` ({index['documents']} documents, "
        f"{index['tokens']} tokens); every feature is in one.\n\n"
        f"| stage | features |\n|---|---:|\n{rows}\n"
    )
