"""Computes what is kept beside the demo index: vocabulary probe and facts of all features.

    python -m demo.annotate [--output demo/index/annotations.npz]

Reads the shipped index; sweeps nothing.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from rich.progress import Progress

from services.activation.annotations.build import RowProgress
from services.activation.annotations.library import AnnotationLibrary
from services.activation.bootstrap import index_annotator
from services.activation.indexes import IndexLibrary
from services.activation.registry import load_registry
from services.activation.settings import ActivationSettings

SAE = "smollm2-135m-instruct-l8"
OUTPUT = Path(__file__).parent / "index" / "annotations.npz"


def main() -> None:
    """Computes, stores and prints how large it is and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        settings = ActivationSettings(index_dir=Path(scratch))
        registry = load_registry(settings.registry)
        archive = registry.sae(SAE).index
        key = IndexLibrary(Path(scratch)).install(archive) if archive else None
        if key is None:
            raise SystemExit("the demo index is not there")
        task = progress.add_task("tokens behind carriers", total=None)

        def report(step: RowProgress) -> None:
            progress.update(task, completed=step.done_rows, total=step.total_rows)

        library = AnnotationLibrary(Path(scratch))
        annotator = index_annotator(settings, registry, library)
        fingerprint = annotator.annotate(SAE, key, cancelled=lambda: False, report=report)
        shutil.copyfile(library.path(key), output)
    seconds = time.monotonic() - began
    print(f"{output}: {output.stat().st_size:,} bytes in {seconds:.0f} s, sha256 {fingerprint}")


if __name__ == "__main__":
    main()
