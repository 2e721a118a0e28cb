"""The vocabulary probe and the weight facts of all features of one index, as one file.

Deterministic bytes: an ``npz`` whose members carry no times. Activations and logits are 16-bit
floats relative to the largest of their row (exact to 0.05 % of it); counts, indices, norms and
cosines are exact. Read whole: about 500 bytes a feature.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import FeatureFacts, Scored
from services.activation.encoder.identity import Fingerprints, canonical_json
from services.activation.vocabulary.carriers import Carrier, CarrierKind
from services.common.errors import FailedPrecondition

FORMAT_VERSION = 2
_HEADER = "header"
_WEIGHT_LISTS = ("neighbor", "promoted", "suppressed")


@dataclass(frozen=True)
class Header:
    """What the tables belong to."""

    index_key: str
    fingerprints: Fingerprints
    readout: str
    """Fingerprint of final norm and unembedding, on which the index does not depend."""
    carriers: tuple[Carrier, ...]
    probed_token_count: int
    """Tokens tried behind each carrier: the vocabulary."""
    tokens_absent_reason: str
    """Why there are no promoted and suppressed tokens; empty where there are."""

    def as_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                "format": FORMAT_VERSION,
                "index_key": self.index_key,
                "fingerprints": self.fingerprints.as_dict(),
                "readout": self.readout,
                "carriers": [[c.name, c.kind.value, list(c.ids)] for c in self.carriers],
                "probed_token_count": self.probed_token_count,
                "tokens_absent_reason": self.tokens_absent_reason,
            }
        )

    @staticmethod
    def from_bytes(raw: bytes) -> Header:
        """Inverse of :meth:`as_bytes`. ValueError, KeyError or TypeError where it is another's."""
        fields: dict[str, Any] = json.loads(raw)
        if fields["format"] != FORMAT_VERSION:
            raise ValueError(f"format {fields['format']}, this service reads {FORMAT_VERSION}")
        return Header(
            index_key=fields["index_key"],
            fingerprints=Fingerprints(**fields["fingerprints"]),
            readout=fields["readout"],
            carriers=tuple(Carrier(n, CarrierKind(k), tuple(i)) for n, k, i in fields["carriers"]),
            probed_token_count=int(fields["probed_token_count"]),
            tokens_absent_reason=fields["tokens_absent_reason"],
        )


@dataclass(frozen=True)
class CarrierTops:
    """One feature behind one carrier."""

    carrier: Carrier
    tokens: tuple[Scored, ...]
    """Strongest first."""
    positive_count: int
    active_count: int


class Annotations:
    """Tables with lookups by feature.

    Args:
        header: What they belong to.
        arrays: By name; see :mod:`services.activation.annotations.build`.
    """

    def __init__(self, header: Header, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.header = header
        self.arrays = arrays

    @property
    def feature_count(self) -> int:
        """Features of the SAE."""
        return len(self.arrays["decoder_norm"])

    def facts(self, feature: int) -> FeatureFacts:
        """What the weights say of one feature."""
        neighbors, promoted, suppressed = (self._ranked(name, feature) for name in _WEIGHT_LISTS)
        return FeatureFacts(
            feature=feature,
            decoder_norm=float(self.arrays["decoder_norm"][feature]),
            nearest_features=neighbors,
            promoted_tokens=promoted,
            suppressed_tokens=suppressed,
            tokens_absent_reason=self.header.tokens_absent_reason,
        )

    def density_match(self, feature: int) -> int | None:
        """The unrelated feature of the closest density."""
        match = int(self.arrays["density_match"][feature])
        return match if match >= 0 else None

    def probe(self, feature: int) -> list[CarrierTops]:
        """What one feature does at the tokens of the vocabulary, carrier by carrier."""
        found = []
        for place, carrier in enumerate(self.header.carriers):
            positive = int(self.arrays["positive_count"][place, feature])
            tokens = self.arrays["top_token"][place, feature]
            count = min(positive, len(tokens))
            values = self.arrays["top_value"][place, feature, :count].astype(np.float32)
            values = values * self.arrays["top_scale"][place, feature]
            found.append(
                CarrierTops(
                    carrier,
                    _scored(tokens[:count], values),
                    positive,
                    int(self.arrays["active_count"][place, feature]),
                )
            )
        return found

    def _ranked(self, name: str, feature: int) -> tuple[Scored, ...]:
        if f"{name}_index" not in self.arrays:
            return ()
        scores = self.arrays[f"{name}_score"][feature].astype(np.float32)
        if f"{name}_scale" in self.arrays:
            scores = scores * self.arrays[f"{name}_scale"][feature]
        return _scored(self.arrays[f"{name}_index"][feature], scores)


def scaled(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Rows relative to their largest entry in size, and that entry; rows of zeros have scale 0."""
    scale = np.abs(values).max(axis=-1, initial=0.0).astype(np.float32)
    safe = np.where(scale > 0, scale, 1)[..., None]
    return (values / safe).astype(np.float16), scale


def write_annotations(annotations: Annotations, path: Path) -> str:
    """Write a file; it appears complete or not at all. Returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.frombuffer(annotations.header.as_bytes(), dtype=np.uint8)
    temporary = path.with_name(f".{path.name}.partial")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, array in sorted({**annotations.arrays, _HEADER: header}.items()):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, buffer.getvalue())
    temporary.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_header(path: Path) -> Header:
    """What a file belongs to. FailedPrecondition: ARTIFACT_CORRUPT."""
    return _read(path, {_HEADER}).header


def read_annotations(path: Path) -> Annotations:
    """A whole file. FailedPrecondition: ARTIFACT_CORRUPT where it is damaged."""
    return _read(path, None)


def _read(path: Path, names: set[str] | None) -> Annotations:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if names is None or name in names}
        return Annotations(Header.from_bytes(arrays.pop(_HEADER).tobytes()), arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        message = f"annotations at {path} are damaged: {error}"
        raise FailedPrecondition(message, reason="ARTIFACT_CORRUPT") from error


def _scored(indices: NDArray[Any], scores: NDArray[Any]) -> tuple[Scored, ...]:
    pairs = zip(indices.tolist(), scores.tolist(), strict=True)
    return tuple(Scored(int(index), float(score)) for index, score in pairs)
