"""How fast texts become activations, side by side in one run: ours in process against a
bare forward of the cut model and against the way SAELens computes.

    python -m benchmarks.throughput [--texts 256] [--repeats 3]

Arms take turns, so that a machine whose speed drifts drifts for all of them; ratios are
taken within a turn and the median over turns is printed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE

from services.activation.encoder.encode import plan_batches
from services.activation.encoder.inprocess import LoadedSae
from services.activation.encoder.model import pad_rows
from services.activation.encoder.rows import TokenRow
from services.activation.encoder.tokenizer import load_tokenizer
from services.activation.index.corpus import read_corpus
from services.activation.loading import RegistryLoader
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

SAE_ID = "smollm2-135m-instruct-l8"
CORPUS = Path(__file__).parents[1] / "demo" / "corpus" / "corpus.jsonl.zst"
FEATURES = list(range(0, 4_608, 288))
_SAELENS_BATCH = 32


def main() -> None:
    """Prints a row per arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    settings = ActivationSettings()
    registry = load_registry(settings.registry)
    loaded = RegistryLoader(registry, settings.cache_dir, "cpu", settings.encoder_limits)(SAE_ID)
    rows = _rows(arguments.texts, settings)
    reference = SAE.load_from_disk(str(registry.sae(SAE_ID).folder), dtype="float32")
    arms: dict[str, Callable[[], None]] = {
        "limit: bare cut forward, sorted batches": lambda: _bare(loaded, rows),
        "ours, in process, 16 features": lambda: _ours(loaded, rows),
        "SAELens' way: padded 32s in arrival order": lambda: _saelens(loaded, reference, rows),
    }
    for arm in arms.values():
        arm()
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(arguments.repeats):
        for name, arm in arms.items():
            begin = time.perf_counter()
            arm()
            times[name].append(time.perf_counter() - begin)
    tokens = sum(len(row) for row in rows)
    limit = times[next(iter(arms))]
    print(f"{len(rows)} texts, {tokens} tokens, 2 threads, fp32, {platform.processor() or 'cpu'}")
    print("| arm | tokens/s | of the limit |\n|---|---:|---:|")
    for name, taken in times.items():
        speed = tokens / statistics.median(taken)
        ratio = statistics.median(a / b for a, b in zip(limit, taken, strict=True))
        print(f"| {name} | {speed:,.0f} | {ratio:.2f} |")


def _rows(count: int, settings: ActivationSettings) -> list[TokenRow]:
    """Texts of 12 to 128 tokens from the demo corpus, by seed."""
    registry = load_registry(settings.registry)
    source = registry.model_source(registry.sae(SAE_ID).model, settings.cache_dir)
    tokenizer = load_tokenizer(source)
    documents = read_corpus(str(CORPUS), max_documents=count).documents
    rng = np.random.default_rng(0)
    ids = tokenizer.content_ids([document.text for document in documents])
    bos = np.array([tokenizer.bos_token_id])
    return [np.concatenate([bos, row[: rng.integers(11, 128)]]).astype(np.int64) for row in ids]


def _bare(loaded: LoadedSae, rows: list[TokenRow]) -> None:
    encoder = loaded.encoder
    for batch in plan_batches([len(row) for row in rows], encoder.batch_token_budget):
        encoder.model.hidden_states(pad_rows([rows[i] for i in batch]), loaded.sae.config.hook)


def _ours(loaded: LoadedSae, rows: list[TokenRow]) -> None:
    loaded.encoder.encode(loaded.sae, rows, FEATURES)


def _saelens(loaded: LoadedSae, reference: SAE, rows: list[TokenRow]) -> None:
    """Padded batches as they come, every feature encoded by SAELens itself."""
    for begin in range(0, len(rows), _SAELENS_BATCH):
        batch = pad_rows(rows[begin : begin + _SAELENS_BATCH])
        hidden = loaded.encoder.model.hidden_states(batch, loaded.sae.config.hook)
        with torch.inference_mode():
            reference.encode(hidden)[..., FEATURES].numpy()


if __name__ == "__main__":
    main()
