"""Small shared values: names, tensors, outcomes, canonical JSON. The load-bearing checks
are the refusals: a wrong name, shape or unit must not turn into a plausible value."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saexplain.common.v1 import experiment_pb2, score_pb2, tensor_pb2
from services.common import names
from services.common.canonical import canonical_json, digest
from services.common.database import create_engine
from services.common.errors import InvalidArgument
from services.common.outcomes import OutcomeThresholds, classify
from services.common.tensors import from_tensor, to_tensor


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_a_tensor_comes_back_as_it_went(dtype: type, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = from_tensor(to_tensor(array))
    assert back.dtype == array.dtype and back.shape == shape and (back == array).all()


def test_a_tensor_of_strided_or_big_endian_memory_keeps_its_values() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    assert from_tensor(to_tensor(array)).tolist() == array.tolist()


def test_float64_is_not_shortened_silently() -> None:
    with pytest.raises(TypeError):
        to_tensor(np.zeros(2))


@pytest.mark.parametrize(
    "tensor",
    [
        tensor_pb2.Tensor(),
        tensor_pb2.Tensor(data_type=1, shape=[2], data=b"\0" * 7),
        tensor_pb2.Tensor(data_type=1, shape=[-1], data=b""),
        tensor_pb2.Tensor(data_type=99, shape=[0], data=b""),
    ],
    ids=["untyped", "wrong length", "negative size", "unknown type"],
)
def test_a_broken_tensor_is_refused(tensor: tensor_pb2.Tensor) -> None:
    with pytest.raises(InvalidArgument):
        from_tensor(tensor)


def test_a_feature_name_is_parsed_into_its_parts() -> None:
    ref = names.parse_feature("saes/demo-8/features/17")
    assert (ref.sae, ref.index, ref.name) == ("demo-8", 17, "saes/demo-8/features/17")


@pytest.mark.parametrize(
    "name",
    ["", "saes/x", "saes/x/features/", "saes/x/features/-1", "saes/x/features/01",
     "saes/X/features/1", "saes/x/features/1\n", "saes/x/features/１", "features/1"],
)  # fmt: skip
def test_a_malformed_feature_name_names_its_field(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names.parse_feature(name, "feature")
    assert caught.value.violations[0].field == "feature"


@given(st.text(max_size=100))
def test_no_text_breaks_the_name_parsers(text: str) -> None:
    for parse in (names.parse_feature, names.parse_sae, names.parse_project, names.parse_index):
        with pytest.raises(InvalidArgument):
            parse("?" + text)


@pytest.mark.parametrize(
    ("activation", "outcome"),
    [
        (10.0, "ACTIVE"), (5.002, "ACTIVE"), (5.0, "AMBIGUOUS"), (4.9995, "AMBIGUOUS"),
        (4.99, "WEAK"), (1.002, "WEAK"), (1.0, "AMBIGUOUS"), (0.99, "SILENT"), (0.0, "SILENT"),
    ],
)  # fmt: skip
def test_outcomes_follow_the_thresholds(activation: float, outcome: str) -> None:
    verdict = classify(activation, 10.0)
    assert experiment_pb2.ProbeOutcome.Name(verdict) == f"PROBE_OUTCOME_{outcome}"


@pytest.mark.parametrize("reference", [0.0, -1.0, float("nan")])
def test_without_a_unit_there_is_no_verdict(reference: float) -> None:
    with pytest.raises(ValueError, match="reference_max"):
        classify(1.0, reference)


@pytest.mark.parametrize("shares", [(0.1, 0.5), (0.5, 0.0), (0.1, 0.1)])
def test_thresholds_out_of_order_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="silent_share"):
        OutcomeThresholds(active_share=shares[0], silent_share=shares[1])


def test_canonical_json_is_sorted_and_leaves_defaults_out() -> None:
    score = score_pb2.Score(metric="f1", method="corpus", value=0.1)
    assert canonical_json(score) == b'{"method":"corpus","metric":"f1","value":0.1}'
    assert json.loads(canonical_json(score_pb2.Score(value=0.0))) == {"value": 0.0}


def test_a_digest_changes_with_any_field() -> None:
    score = score_pb2.Score(method="corpus", value=0.1)
    other = score_pb2.Score(method="corpus", value=0.1, insensitive=True)
    assert digest(score) != digest(other)
    assert digest(score) == digest(score_pb2.Score.FromString(score.SerializeToString()))


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://h/d", "not a url", ""])
def test_only_postgresql_is_accepted(url: str) -> None:
    with pytest.raises(InvalidArgument):
        create_engine(url)


def test_a_broken_database_url_is_refused_without_its_password() -> None:
    with pytest.raises(InvalidArgument) as caught:
        create_engine("postgresql://user:s3cret@host:port/db")
    assert "s3cret" not in str(caught.value)
