"""Measures the demo's SAE on held-out sources and writes its card.

Usage: ``python -m demo.evaluate_sae --model <folder> --sae demo/sae``
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from sae_lens import SAE

from demo.card import write_card
from demo.corpus_rows import Row, is_held_out, read_corpus, rows
from demo.evaluation import cross_entropy, reconstruction
from demo.residual_stream import CONTEXT_TOKENS, CutModel
from demo.train_sae import CORPUS


def held_out_rows(model_folder: Path, bos_id: int, seed: int) -> list[Row]:
    """Rows of the sources that training never saw, shuffled."""
    documents = [item for item in read_corpus(CORPUS) if is_held_out(item.source)]
    chosen = list(rows(documents, model_folder, CONTEXT_TOKENS, bos_id))
    random.Random(seed).shuffle(chosen)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the converted model")
    parser.add_argument("--sae", type=Path, required=True, help="folder of the SAE")
    parser.add_argument("--loss-rows", type=int, default=150, help="rows for cross-entropy")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    sae = SAE.load_from_disk(arguments.sae, device="cpu", dtype="float32")
    model = CutModel(arguments.model)
    chosen = held_out_rows(arguments.model, model.bos_id, arguments.seed)
    rebuilt = reconstruction(sae, model, chosen)
    loss = cross_entropy(
        sae, arguments.model, chosen[: arguments.loss_rows], rebuilt.mean_activation
    )
    metadata = sae.cfg.metadata
    write_card(
        arguments.sae,
        {
            "model": metadata.model_name,
            "hook_name": metadata.hook_name,
            "hook_layer": metadata.hook_layer,
            "sizes": {"d_in": sae.cfg.d_in, "d_sae": sae.cfg.d_sae, "k": sae.cfg.k},
            "weights_dtype": "float16",
            "context_size": metadata.context_size,
            "prepend_bos": metadata.prepend_bos,
            "excluded_positions": metadata.excluded_positions,
            "training": metadata.training,
            "held_out": {
                "tokens": rebuilt.tokens,
                "sources": len({row.source for row in chosen}),
                "l0": rebuilt.l0,
                "explained_variance": rebuilt.explained_variance,
                "explained_variance_median_token": rebuilt.explained_variance_median_token,
                "dead_share": rebuilt.dead_share,
                "density_histogram": rebuilt.density_histogram(),
                "cross_entropy_nats": {
                    "tokens": loss.tokens,
                    "original": loss.original,
                    "sae": loss.sae,
                    "mean_ablated": loss.mean_ablated,
                    "zero_ablated": loss.zero_ablated,
                    "recovered_of_mean": loss.recovered_of_mean,
                    "recovered_of_zero": loss.recovered_of_zero,
                },
            },
        },
    )


if __name__ == "__main__":
    main()
