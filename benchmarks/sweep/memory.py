"""Peak memory of plan, sweep and merge, in a process of its own:

    python -m benchmarks.sweep.memory --tokens 100000

Documents are generated, all different; the model is tiny, so that the corpus would show. Prints
one JSON line: tokens, documents, the peak of resident memory, and of it what was there before.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from services.activation.encoder.bound import BoundEncoder
from services.activation.encoder.fingerprints import fingerprints_of
from services.activation.encoder.hooks import parse_hook
from services.activation.encoder.model import load_model
from services.activation.encoder.sae import load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.encoder.tokenizer import load_tokenizer
from services.activation.index.config import IndexConfig
from services.activation.index.corpora.documents import DocumentReader, RawRecord
from services.activation.index.merge import merge_parts
from services.activation.index.plan import load_plan, make_plan, save_plan
from services.activation.index.sweep import sweep_chunks
from tests.activation import tiny

_WORDS_PER_DOCUMENT = 250
_SHARD_TOKENS = 50_000


def main() -> None:
    """Measures one size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, required=True)
    wanted: int = parser.parse_args().tokens
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print(json.dumps(_measure(wanted, folder)))


def _measure(wanted: int, folder: Path) -> dict[str, float]:
    model_folder = tiny.write_model(folder / "model")
    sae = load_sae(SaeSource(str(tiny.write_sae(folder / "sae"))))
    model = load_model(ModelSource(str(model_folder)), parse_hook(tiny.HOOK).layer_count)
    tokenizer = load_tokenizer(ModelSource(str(model_folder)))
    prints = fingerprints_of(model, ModelSource(str(model_folder)), sae, tokenizer)
    encoder = BoundEncoder(model, sae, 4_096)
    encoder.encode_sparse([np.ones(128, np.int64)] * 32)
    before = _peak()
    begun = time.monotonic()
    (folder / "plan").mkdir()
    corpus = DocumentReader(_documents(wanted))
    save_plan(make_plan(corpus, tokenizer, prints, IndexConfig(), folder / "plan"), folder / "plan")
    plan = load_plan(folder / "plan")
    planned, peak_of_plan = time.monotonic(), _peak()
    shards = max(1, round(plan.token_count / _SHARD_TOKENS))
    parts = []
    for shard in range(min(shards, plan.chunk_count)):
        parts.append(folder / f"part-{shard}")
        chunks = plan.shard_chunks(shard, min(shards, plan.chunk_count))
        sweep_chunks(plan, encoder, chunks, parts[-1], clock=time.monotonic, report=lambda _: None)
    swept, peak_of_sweep = time.monotonic(), _peak()
    merge_parts(plan, parts, lambda block: [np.empty(0, np.int64) for _ in block], folder / "index")
    return {
        "tokens": plan.token_count,
        "documents": len(plan.documents.ids),
        "shards": len(parts),
        "before_mib": before,
        "peak_of_plan_mib": peak_of_plan,
        "peak_of_sweep_mib": peak_of_sweep,
        "peak_mib": _peak(),
        "plan_seconds": round(planned - begun, 1),
        "sweep_seconds": round(swept - planned, 1),
        "merge_seconds": round(time.monotonic() - swept, 1),
    }


def _documents(wanted: int) -> Iterator[RawRecord]:
    """Random documents of about so many tokens in all; each is made when it is asked for."""
    rng = np.random.default_rng(0)
    for number in range(max(20, wanted // _WORDS_PER_DOCUMENT)):
        text = tiny.sentences(rng, _WORDS_PER_DOCUMENT)
        source = f"source-{number // 2}"
        yield RawRecord(str(number), {"id": str(number), "source": source, "text": text})


def _peak() -> float:
    """Peak of this process' resident memory so far, MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
