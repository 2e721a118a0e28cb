"""Records of Hugging Face datasets: streamed from the hub, or saved to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from services.activation.index.corpora.documents import RawRecord, invalid
from services.activation.index.corpora.locations import DATASET_SCHEME
from services.common.errors import FailedPrecondition, InvalidArgument

SAVED = "state.json"
"""Stands in a folder written by ``Dataset.save_to_disk``."""
_PARAMETERS = ("split", "config", "revision")


def hub_dataset(location: str) -> Iterator[RawRecord]:
    """Rows of ``dataset:{name}?split=train&config=…&revision=…``, without downloading it whole.

    Raises:
        InvalidArgument: FIELD_INVALID for an unknown parameter.
        FailedPrecondition: ARTIFACT_CORRUPT where the dataset cannot be opened.
    """
    import datasets

    name, _, query = location.removeprefix(f"{DATASET_SCHEME}:").partition("?")
    given = {key: values[-1] for key, values in parse_qs(query).items()}
    unknown = sorted(set(given) - set(_PARAMETERS))
    if unknown or not name:
        message = f"{location} is not dataset:NAME?split=…&config=…&revision=… ({unknown})"
        raise InvalidArgument(message, field="corpus")
    try:
        rows = datasets.load_dataset(
            name,
            given.get("config"),
            split=given.get("split", "train"),
            revision=given.get("revision"),
            streaming=True,
        )
        yield from _rows(rows, name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        message = f"dataset {name} cannot be read: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def saved_dataset(folder: Path) -> Iterator[RawRecord]:
    """Rows of a folder written by ``Dataset.save_to_disk``; the files are mapped, not loaded."""
    import datasets

    try:
        rows = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise invalid(str(folder), f"not a saved dataset: {error}") from error
    yield from _rows(rows, folder.name)


def _rows(rows: Any, name: str) -> Iterator[RawRecord]:
    for number, values in enumerate(rows):
        yield RawRecord(f"{name} row {number}", values)
