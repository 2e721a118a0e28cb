"""Files of annotations: what is read is what was written, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.activation.annotations.library import AnnotationLibrary
from services.activation.annotations.tables import (
    Annotations,
    Header,
    read_annotations,
    scaled,
    write_annotations,
)
from services.activation.encoder.identity import Fingerprints
from services.activation.vocabulary.carriers import Carrier, CarrierKind
from services.common.errors import FailedPrecondition

KEY = "ab" * 32
PRINTS = Fingerprints("m", "s", "t")
HEADER = Header(KEY, PRINTS, "head", (Carrier("short-1", CarrierKind.SHORT, (5, 6)),), 400, "")
VALUES = np.array([[[70_000.0, 3.0, 0.0], [0.0, 0.0, 0.0]]], np.float32)


def example() -> Annotations:
    top, scale = scaled(VALUES)
    return Annotations(
        HEADER,
        {
            "decoder_norm": np.array([1.0, 2.0], np.float32),
            "density_match": np.array([1, -1], np.int32),
            "neighbor_index": np.array([[1], [0]], np.uint8),
            "neighbor_score": np.array([[0.25], [0.25]], np.float32),
            "top_token": np.array([[[9, 300, 0], [0, 0, 0]]], np.uint16),
            "top_value": top,
            "top_scale": scale,
            "positive_count": np.array([[2, 0]], np.uint8),
            "active_count": np.array([[1, 0]], np.uint8),
        },
    )


def test_what_is_written_is_read_and_the_bytes_repeat(tmp_path: Path) -> None:
    """Guards against values beyond 16-bit floats, tokens that fill a short list, and bytes that
    depend on the clock."""
    first = write_annotations(example(), tmp_path / "one.npz")
    assert write_annotations(example(), tmp_path / "two.npz") == first
    found = read_annotations(tmp_path / "one.npz")
    assert found.header == HEADER
    strong, silent = (found.probe(feature)[0] for feature in (0, 1))
    assert [token.index for token in strong.tokens] == [9, 300]
    assert strong.tokens[0].score == pytest.approx(70_000.0, rel=1e-3)
    assert strong.tokens[1].score == pytest.approx(3.0, abs=70)
    assert (strong.positive_count, strong.active_count) == (2, 1)
    assert (silent.tokens, silent.positive_count) == ((), 0)
    facts = found.facts(0)
    assert facts.nearest_features[0].index == 1
    assert facts.promoted_tokens == ()
    assert (found.density_match(0), found.density_match(1)) == (1, None)


def test_a_library_finds_what_is_kept_and_what_is_shipped(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped.npz"
    write_annotations(example(), shipped)
    library = AnnotationLibrary(tmp_path / "indexes", [tmp_path / "none.npz", shipped])
    assert library.read(KEY, PRINTS, "head").header == HEADER
    with pytest.raises(FailedPrecondition) as refused:
        library.read("cd" * 32, PRINTS, "head")
    assert refused.value.reason == "ANNOTATION_NOT_BUILT"
    own = AnnotationLibrary(tmp_path / "indexes")
    own.keep(example())
    assert own.find(KEY) == own.path(KEY)


def test_annotations_of_other_weights_or_of_another_index_are_refused(tmp_path: Path) -> None:
    """Guards against an index id that two keys share, and against a retrained SAE."""
    library = AnnotationLibrary(tmp_path)
    library.keep(example())
    with pytest.raises(FailedPrecondition) as refused:
        library.read(KEY, replace(PRINTS, sae="other"), "head")
    assert refused.value.reason == "FINGERPRINT_MISMATCH"
    with pytest.raises(FailedPrecondition) as refused:
        library.read(KEY, PRINTS, "another head")
    assert refused.value.reason == "FINGERPRINT_MISMATCH"
    with pytest.raises(FailedPrecondition):
        AnnotationLibrary(tmp_path).read(KEY[:16] + "0" * 48, PRINTS, "head")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named_as_such(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(FailedPrecondition) as refused:
        read_annotations(path)
    assert refused.value.reason == "ARTIFACT_CORRUPT"
