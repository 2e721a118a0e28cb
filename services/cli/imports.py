"""Explanations from files, as commands ask for them."""

from __future__ import annotations

from pathlib import Path

from services.cli import requests
from services.common.errors import InvalidArgument
from services.common.explanation_files import ImportedExplanation, read_explanations
from services.common.names import FeatureRef, parse_sae

EXPLAINER = "import"


def read(path: Path, option: str) -> list[ImportedExplanation]:
    """All explanations of a file that the command line names.

    Raises:
        InvalidArgument: it cannot be read, or is not fit.
    """
    try:
        return read_explanations(path)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", option) from error


def feature_of(entry: ImportedExplanation, sae: str) -> str:
    """The name of the feature that an entry explains.

    Raises:
        InvalidArgument: the entry gives a bare index, and there is no SAE; or another one.
    """
    named = requests.sae_of(sae) if sae else ""
    if entry.sae and named and entry.sae != named:
        raise InvalidArgument(f"the file explains features of {entry.sae}", "--sae")
    if not (entry.sae or named):
        raise InvalidArgument("the file gives bare indices: name their SAE", "--sae")
    return FeatureRef(parse_sae(entry.sae or named, "--sae"), entry.index).name
