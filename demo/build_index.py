"""Builds the index over the demo corpus and packs it: the same inputs give the same bytes.

    python -m demo.build_index [--output demo/index/index.tar.zst] [--check]

`--check` builds beside the shipped archive and says whether the bytes are the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from services.activation.bootstrap import index_builder
from services.activation.index import sweep
from services.activation.index.archive import pack
from services.activation.index.artifact import ArtifactFiles
from services.activation.index.config import IndexConfig
from services.activation.index.corpus import CorpusSpec
from services.activation.indexing import IndexBuilder, IndexRequest
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

SAE = "smollm2-135m-instruct-l8"
CORPUS = Path(__file__).parent / "corpus" / "corpus.jsonl.zst"
ARCHIVE = Path(__file__).parent / "index" / "index.tar.zst"
_SHARD_TOKENS = 130_000


def build(builder: IndexBuilder, request: IndexRequest) -> ArtifactFiles:
    """Plans, sweeps every shard with a progress bar, and merges."""
    planned = builder.plan(request, _SHARD_TOKENS)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} tokens, {task.fields[speed]:.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("sweep", total=planned.token_count, speed=0.0)
        done = 0
        for shard in range(planned.shard_count):
            swept = 0

            def report(step: sweep.Progress, before: int = done) -> None:
                nonlocal swept
                swept = step.total_tokens
                progress.update(
                    task, completed=before + step.done_tokens, speed=step.tokens_per_second
                )

            builder.shard(
                request,
                planned.key,
                shard,
                planned.shard_count,
                cancelled=lambda: False,
                report=report,
            )
            done += swept
    return builder.merge(request, planned.key, planned.shard_count)


def main() -> None:
    """Builds, packs and prints what the index holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=ARCHIVE)
    parser.add_argument("--work", type=Path, help="keeps finished shards between calls")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        settings = ActivationSettings(index_dir=work)
        builder = index_builder(settings, load_registry(settings.registry))
        files = build(builder, IndexRequest(SAE, CorpusSpec(str(CORPUS)), IndexConfig()))
        output = Path(scratch) / "rebuilt.tar.zst" if arguments.check else arguments.output
        output.parent.mkdir(parents=True, exist_ok=True)
        pack(files.folder, output)
        print(f"{output}: {output.stat().st_size:,} bytes, fingerprint {files.fingerprint}")
        if arguments.check:
            same = output.read_bytes() == arguments.output.read_bytes()
            print("the same bytes as the shipped index" if same else "OTHER BYTES than shipped")
            sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
