"""Guards explanations from elsewhere: each shape is read, and a row that names no feature or
says nothing is refused with its place instead of becoming an empty explanation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from services.common.errors import InvalidArgument
from services.common.explanation_files import read_explanations

NEURONPEDIA = {
    "modelId": "gpt2-small",
    "layer": "6-res-jb",
    "index": "650",
    "description": " words of time ",
    "explanationModelName": "gpt-4o-mini",
    "typeName": "oai_token-act-pair",
    "embedding": [0.1, 0.2],
}


def _read(tmp_path: Path, content: str | bytes) -> list[tuple[str, int, str, str, str]]:
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        (e.sae, e.index, e.explanation.label, e.explanation.description, e.origin)
        for e in read_explanations(path)
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"index": 3, "explanation": "a"}\n\n{"feature": "7", "label": "b"}\n',
         [("", 3, "", "a", ""), ("", 7, "b", "", "")]),
        ('{"feature": "saes/demo/features/5", "description": "d\\u00e9j\\u00e0"}',
         [("saes/demo", 5, "", "déjà", "")]),
        ('\ufefffeature,Description\n3,"one, two"\n4,"line\nbreak"\n',
         [("", 3, "", "one, two", ""), ("", 4, "", "line\nbreak", "")]),
        (json.dumps([NEURONPEDIA]),
         [("", 650, "", "words of time", "gpt-4o-mini oai_token-act-pair")]),
        (json.dumps({"index": "1", "explanations": [{"description": "x"}, {"description": "y"}]}),
         [("", 1, "", "x", ""), ("", 1, "", "y", "")]),
        ('{"index": 1, "label": "same"}\n{"index": 1, "label": "same"}', [("", 1, "same", "", "")]),
    ],
    ids=["lines", "name", "csv", "neuronpedia", "neuronpedia features", "repeat"],
)  # fmt: skip
def test_every_shape_is_read(tmp_path: Path, content: str, expected: list[object]) -> None:
    assert _read(tmp_path, content) == expected
    assert _read(tmp_path, gzip.compress(content.encode())) == expected


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "file"),
        (b"feature,description\n", "file"),
        (b"\xff\xfe\x00", "file"),
        (b"\x1f\x8bbroken", "file"),
        (b'{"index": 1, "label": "a"}\n{"index": 2', "line 2"),
        (b'{"index": 1}', "line 1"),
        (b'{"index": 1, "label": "  "}', "line 1"),
        (b'{"index": 1, "label": 7}', "line 1"),
        (b'{"index": 1, "label": "\\ud800"}', "line 1"),
        (b'{"label": "a"}', "line 1"),
        (b'{"index": -1, "label": "a"}', "line 1"),
        (b'{"index": true, "label": "a"}', "line 1"),
        (b'{"index": NaN, "label": "a"}', "line 1"),
        (b'{"index": 1.5, "label": "a"}', "line 1"),
        (b'{"index": "99999999999999", "label": "a"}', "line 1"),
        (b'{"feature": "saes/demo/feature/5", "label": "a"}', "line 1"),
        (b"[1]", "entry 1"),
        (b"feature,label\n1,a,extra\n", "line 2"),
        (b"other,columns\n1,a\n", "line 2"),
        (b'{"index": 1, "explanations": ["x"]}', "line 1, explanation 1"),
    ],
)
def test_what_is_no_explanation_is_refused_with_its_place(
    tmp_path: Path, content: bytes, place: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        _read(tmp_path, content)
    assert caught.value.violations[0].field == place
