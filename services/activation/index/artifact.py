"""An index on disk: a folder of arrays with a manifest, immutable once written.

``manifest.json`` names every file with its sha256; the manifest's own sha256 identifies the
artifact. Arrays are laid out so that they compress well and can be mapped into memory: values are
16-bit fixed point relative to the feature's maximum (step 1.5e-5 of it), low and high bytes apart.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.identity import canonical_json
from services.activation.index.config import FORMAT_VERSION
from services.activation.index.grid import bin_of
from services.activation.index.partial import Partial
from services.activation.index.plan import IndexPlan, plan_facts
from services.activation.index.records import Records
from services.activation.index.selection import split_of
from services.activation.index.statistics import densities, feature_table, funnel, strata
from services.common.errors import FailedPrecondition

VALUE_STEPS = 65_535
"""Fixed-point steps between 0 and the feature's maximum."""
IS_TOP, IS_SAMPLE = 1, 2
"""Flags of a kept record: an exemplar by rank, a member of the random sample."""

MANIFEST = "manifest.json"
DOCUMENTS = "documents.json"


@dataclass(frozen=True)
class ArtifactFiles:
    """A folder whose checksums were found right."""

    folder: Path
    manifest: dict[str, Any]
    fingerprint: str
    """sha256 of the manifest."""

    def array(self, name: str) -> NDArray[Any]:
        """One array, mapped read-only."""
        mapped: NDArray[Any] = np.load(
            self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False
        )
        return mapped

    def facts(self) -> dict[str, Any]:
        """Manifest and document table, as :func:`restore_plan` takes them."""
        documents: dict[str, Any] = json.loads((self.folder / DOCUMENTS).read_text())
        return {**self.manifest, **documents}


def write_artifact(plan: IndexPlan, whole: Partial, folder: Path) -> ArtifactFiles:
    """Write a finished index.

    Args:
        plan: The plan.
        whole: All parts joined.
        folder: Appears complete or not at all; one that is there already stays as it is.

    Raises:
        FailedPrecondition: ARTIFACT_CORRUPT where chunks are missing.
    """
    missing = sorted(set(range(plan.chunk_count)) - set(whole.chunks.tolist()))
    if missing:
        message = f"{len(missing)} of {plan.chunk_count} chunks are missing, first {missing[0]}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    table = feature_table(plan, whole)
    arrays = {**_plan_arrays(plan), **_count_arrays(plan, whole)}
    arrays |= {
        "maximum": table.maximum,
        "reference_max": table.reference_max,
        "tau_documents": _smallest(table.tau_documents),
    }
    arrays |= _record_arrays(plan, whole, table.maximum)
    for name, array in sorted(arrays.items()):
        np.save(temporary / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    facts = plan_facts(plan)
    documents = {"documents": facts.pop("documents")}
    (temporary / DOCUMENTS).write_bytes(canonical_json(documents))
    density = densities(whole.token_histogram, plan.split_report.scored_token_counts)
    manifest = {
        **facts,
        "format": FORMAT_VERSION,
        "feature_count": whole.feature_count,
        "document_count": len(plan.documents.ids),
        "token_count": plan.token_count,
        "window_count": plan.layout.window_count,
        "split_report": plan.split_report.as_dict(),
        "funnel": funnel(strata(density, whole.token_histogram, table.tau_documents)).as_dict(),
        "files": _checksums(temporary),
    }
    (temporary / MANIFEST).write_bytes(canonical_json(manifest))
    return put_in_place(temporary, folder)


def put_in_place(temporary: Path, folder: Path) -> ArtifactFiles:
    """Give a complete folder its name; where another process came first, its folder stays."""
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)
    return open_artifact(folder)


def open_artifact(folder: Path) -> ArtifactFiles:
    """Open a folder and check every file against the manifest.

    Raises:
        FailedPrecondition: INDEX_NOT_BUILT where there is no manifest, ARTIFACT_CORRUPT where a
            file is missing, changed or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FailedPrecondition(f"there is no index at {folder}", reason="INDEX_NOT_BUILT")
    raw = path.read_bytes()
    try:
        manifest: dict[str, Any] = json.loads(raw)
        files: Mapping[str, str] = manifest["files"]
        version = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(folder, f"unreadable manifest ({error!r})") from error
    if version != FORMAT_VERSION:
        raise _corrupt(folder, f"format {version}, this service reads {FORMAT_VERSION}")
    found = _checksums(folder)
    if found != files:
        wrong = sorted(n for n in {*files, *found} if files.get(n) != found.get(n))
        raise _corrupt(folder, f"missing or changed: {', '.join(wrong)}")
    return ArtifactFiles(folder, manifest, hashlib.sha256(raw).hexdigest())


def _plan_arrays(plan: IndexPlan) -> dict[str, NDArray[Any]]:
    return {
        "tokens": _smallest(plan.layout.tokens),
        "document_offsets": plan.layout.document_offsets.astype(np.uint32),
        "document_split": plan.document_split,
        "window_split": plan.window_split,
    }


def _count_arrays(plan: IndexPlan, whole: Partial) -> dict[str, NDArray[Any]]:
    hits = np.zeros((whole.feature_count, len(plan.panel_windows)), dtype=bool)
    place, feature = np.divmod(whole.panel_hits, whole.feature_count)
    hits[feature, place] = True
    return {
        "token_histogram": _smallest(whole.token_histogram),
        "window_histogram": _smallest(whole.window_histogram),
        "panel_hits": np.packbits(hits, axis=1),
    }


def _record_arrays(
    plan: IndexPlan, whole: Partial, maximum: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    records, flags = _united(plan, whole)
    counts = np.diff(records.offsets)
    scale = np.repeat(maximum[records.feature].astype(np.float64), counts)
    steps = np.rint(records.value / scale * VALUE_STEPS)
    steps = np.clip(steps, 1, VALUE_STEPS).astype(np.uint16)
    rows = np.bincount(records.feature, minlength=whole.feature_count)
    entries = np.bincount(records.feature, weights=counts, minlength=whole.feature_count).astype(
        np.int64
    )
    return {
        "row_offsets": _bounds(rows),
        "entry_offsets": _bounds(entries),
        "row_window": _smallest(records.window),
        "row_flags": flags,
        "row_bin": bin_of(records.maximum).astype(np.uint8),
        "row_entry_count": counts.astype(np.uint8),
        "entry_position": records.position,
        "entry_value_high": (steps >> 8).astype(np.uint8),
        "entry_value_low": (steps & 255).astype(np.uint8),
    }


def _united(plan: IndexPlan, whole: Partial) -> tuple[Records, NDArray[np.uint8]]:
    """Exemplars and samples in one table, by feature, split, bin and window; a flag for each."""
    records = Records.join([whole.top, whole.samples])
    flags = np.repeat(np.array([IS_TOP, IS_SAMPLE], np.uint8), [len(whole.top), len(whole.samples)])
    split = split_of(records, plan.window_split)
    order = np.lexsort((flags, records.window, bin_of(records.maximum), split, records.feature))
    records, flags = records.take(order), flags[order]
    same = (records.feature[1:] == records.feature[:-1]) & (
        records.window[1:] == records.window[:-1]
    )
    flags[:-1][same] |= flags[1:][same]
    first = np.concatenate([[True], ~same]) if len(flags) else np.empty(0, bool)
    return records.take(first), flags[first]


def _bounds(counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers >= 0 in the narrowest unsigned type that holds them."""
    largest = int(array.max(initial=0))
    return array.astype(np.min_scalar_type(largest))


def _checksums(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def _corrupt(folder: Path, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"index at {folder}: {problem}", reason="ARTIFACT_CORRUPT")
