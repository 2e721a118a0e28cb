"""The vocabulary probe and facts in bulk over gRPC.

Load-bearing: `test_a_probe_equals_encode_on_full_rows`, which asks `Encode` for every row that a
probe stands for.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.common.v1 import feature_pb2, vocabulary_pb2
from services.activation.encoder.tokenizer import TextTokenizer
from services.common.grpc_client import from_rpc_error
from services.common.tensors import from_tensor
from tests.activation import tiny
from tests.activation.stack import front_stub, indexer_stub, settings, write_registry
from tests.activation.test_server import SAE, build, encode, index_config

FEATURES = [5, 17, 40]


@pytest.fixture
def chosen(tmp_path: Path, model_folder: Path, sae_folder: Path) -> Any:
    registry = write_registry(tmp_path / "registry.yaml", model_folder, sae_folder)
    return settings(registry, tmp_path, probe_batch_tokens=128, probe_page_features=50)


async def probe(stub: Any, **fields: Any) -> list[pb.ProbeVocabularyResponse]:
    request = pb.ProbeVocabularyRequest(sae=SAE, **fields)
    return [response async for response in stub.ProbeVocabulary(request)]


async def plain(stub: Any, prefix: list[int], tokens: range, features: list[int]) -> np.ndarray:
    """The last token's activations of whole rows, [tokens, features]."""
    texts = await encode(stub, [[*prefix, token] for token in tokens], features)
    return np.stack([from_tensor(text.activations)[-1] for text in texts])


async def test_a_probe_equals_encode_on_full_rows(chosen: Any, tokenizer: TextTokenizer) -> None:
    """Values of chosen features behind a text, behind ids, and behind nothing."""
    text = "the small cat"
    ids = tokenizer.content_ids([text])[0].tolist()
    carriers = [
        pb.CarrierInput(text=text),
        pb.CarrierInput(token_ids=pb.TokenIds(ids=ids[:-1])),
        pb.CarrierInput(bare=True),
    ]
    async with front_stub(chosen) as stub:
        pages = await probe(stub, carriers=carriers, feature_indices=FEATURES, all_values=True)
        for place, prefix in enumerate((ids, ids[:-1], [])):
            mine = [page for page in pages if page.carrier_index == place]
            assert mine[0].carrier.prefix.token_ids == prefix
            assert len(mine[0].key) == 64 and mine[0].backend == "in_process"
            values = [page.values for page in mine if page.HasField("values")]
            tokens = np.concatenate([from_tensor(page.token_ids) for page in values])
            found = np.concatenate([from_tensor(page.activations) for page in values])
            assert tokens.tolist() == list(range(tokenizer.vocabulary_size))
            expected = await plain(stub, prefix, range(tokenizer.vocabulary_size), FEATURES)
            np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
            assert (expected > 0).any()
        kinds = [page.carrier.kind for page in pages if page.HasField("carrier")]
        assert kinds[-1] == vocabulary_pb2.CARRIER_KIND_BARE
        assert len({page.key for page in pages if page.key}) == 3


async def test_the_strongest_tokens_of_all_features(chosen: Any, tokenizer: TextTokenizer) -> None:
    """Guards against features lost between pages, and counts that follow the list's length."""
    prefix, top = [7, 8, 9], 4
    carriers = [pb.CarrierInput(token_ids=pb.TokenIds(ids=prefix))]
    async with front_stub(chosen) as stub:
        pages = await probe(stub, carriers=carriers, top_count=top)
        some = await probe(stub, carriers=carriers, top_count=top, feature_indices=[40, 5])
        every = list(range(tiny.D_SAE))
        expected = await plain(stub, prefix, range(tokenizer.vocabulary_size), every)
    tops = [page.top_tokens for page in pages if page.HasField("top_tokens")]
    assert len(tops) == 2
    features = np.concatenate([from_tensor(page.feature_indices) for page in tops])
    tokens = np.concatenate([from_tensor(page.token_ids) for page in tops])
    counts = np.concatenate([from_tensor(page.positive_token_counts) for page in tops])
    assert features.tolist() == every
    assert counts.tolist() == (expected > 0).sum(axis=0).tolist()
    for feature in every:
        best = [token for token in tokens[feature].tolist() if token >= 0]
        assert len(best) == min(top, counts[feature])
        reached = np.sort(expected[:, feature])[::-1][: len(best)]
        np.testing.assert_allclose(expected[best, feature], reached, atol=1e-4 * expected.max())
    chosen_page = some[-1].top_tokens
    assert from_tensor(chosen_page.feature_indices).tolist() == [40, 5]
    assert from_tensor(chosen_page.token_ids).tolist() == tokens[[40, 5]].tolist()
    done = [page.done_token_count for page in pages]
    assert done == sorted(done) and done[-1] == tokenizer.vocabulary_size


@pytest.mark.parametrize(
    ("field", "reason", "request_fields"),
    [
        ("selection", "FIELD_INVALID", {}),
        ("selection", "FIELD_INVALID", {"all_values": False}),
        ("feature_indices", "FIELD_INVALID", {"all_values": True}),
        ("top_count", "FIELD_INVALID", {"top_count": 257}),
        ("top_count", "FIELD_INVALID", {"top_count": 0}),
        (
            "feature_indices[1]",
            "FEATURE_OUT_OF_RANGE",
            {"top_count": 1, "feature_indices": [0, 96]},
        ),
        ("token_ids[0]", "FIELD_INVALID", {"top_count": 1, "token_ids": [-1]}),
        ("token_ids", "FIELD_INVALID", {"top_count": 1, "token_ids": [3, 3]}),
        (
            "carriers",
            "FIELD_INVALID",
            {"top_count": 1, "carriers": [pb.CarrierInput(bare=True)] * 9},
        ),
        ("carriers[0]", "FIELD_INVALID", {"top_count": 1, "carriers": [pb.CarrierInput()]}),
        ("carriers[0]", "TEXT_EMPTY", {"top_count": 1, "carriers": [pb.CarrierInput(text="")]}),
        (
            "carriers[1]",
            "TEXT_TOO_LONG",
            {
                "top_count": 1,
                "carriers": [pb.CarrierInput(bare=True), pb.CarrierInput(text="a cat " * 9_000)],
            },
        ),
    ],
)
async def test_bad_requests_are_refused_by_field(
    chosen: Any, field: str, reason: str, request_fields: dict[str, Any]
) -> None:
    """Each would otherwise fail deep in numpy or torch, or be answered with something else."""
    async with front_stub(chosen) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await probe(stub, **request_fields)
    error = from_rpc_error(refused.value)
    assert (error.status, error.reason) == ("INVALID_ARGUMENT", reason)
    assert [violation.field for violation in error.violations] == [field]


async def test_too_many_probes_wait_elsewhere_and_a_cancelled_one_gives_its_place_back(
    chosen: Any,
) -> None:
    """Guards against a queue without end, and a place that a caller who left keeps."""
    narrow = chosen.model_copy(update={"max_running_probes": 1, "probe_batch_tokens": 1})
    async with front_stub(narrow) as stub:
        running = stub.ProbeVocabulary(pb.ProbeVocabularyRequest(sae=SAE, top_count=1))
        await running.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await probe(stub, top_count=1)
        error = from_rpc_error(refused.value)
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert error.retry_after_seconds
        running.cancel()
        for _ in range(100):
            try:
                assert await probe(stub, top_count=1, token_ids=[5])
                break
            except grpc.aio.AioRpcError as again:
                assert again.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        else:
            pytest.fail("the place was never given back")


async def test_annotations_are_made_once_and_answer_lookups(
    chosen: Any,
    corpus_path: Path,
    tokenizer: TextTokenizer,
    tmp_path: Path,
    model_folder: Path,
    sae_folder: Path,
) -> None:
    """From AnnotateIndex to GetVocabularyProbe, GetFeature and ListFeatures. Guards against facts
    that change once they are kept, and against a probe of another carrier."""
    config = index_config(corpus_path)
    async with indexer_stub(chosen) as stub:
        merged, _ = await build(stub, config)
        request = pb.AnnotateIndexRequest(config=config, key=merged.key)
        async with front_stub(chosen) as front:
            await refused_lookups(front)
            before = [await front.GetFeature(feature_request(f)) for f in FEATURES]
            steps = [step async for step in stub.AnnotateIndex(request)]
            assert steps[-1].done and steps[-1].done_row_count == 3 * tokenizer.vocabulary_size
            again = [step async for step in stub.AnnotateIndex(request)]
            assert again[-1].artifact_fingerprint == steps[-1].artifact_fingerprint
            for feature, computed in zip(FEATURES, before, strict=True):
                kept = await front.GetFeature(feature_request(feature))
                check_same_facts(kept.facts, computed.facts)
                await check_probe(front, feature)
            listed = await check_lists(front)
            assert listed.facts_of_5 == (await front.GetFeature(feature_request(5))).facts
        other = pb.AnnotateIndexRequest(
            config=index_config(corpus_path, window_token_count=16), key=merged.key
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [step async for step in stub.AnnotateIndex(other)]
        assert from_rpc_error(refused.value).reason == "FINGERPRINT_MISMATCH"
    await another_head_is_noticed(chosen, tmp_path, model_folder, sae_folder)


async def another_head_is_noticed(
    chosen: Any, tmp_path: Path, model_folder: Path, sae_folder: Path
) -> None:
    """The same blocks with another final norm: the index stays right, and what is kept of output
    tokens does not."""
    folder = shutil.copytree(model_folder, tmp_path / "other-head")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][::2] *= 3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    registry = write_registry(tmp_path / "other.yaml", folder, sae_folder)
    async with front_stub(chosen.model_copy(update={"registry": registry})) as front:
        listed = await front.ListFeatures(pb.ListFeaturesRequest(sae=SAE, page_size=1))
        assert listed.total_count == tiny.D_SAE
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await front.GetFeature(feature_request(5))
    assert from_rpc_error(refused.value).reason == "FINGERPRINT_MISMATCH"


def feature_request(feature: int) -> pb.GetFeatureRequest:
    return pb.GetFeatureRequest(name=f"{SAE}/features/{feature}")


async def refused_lookups(front: Any) -> None:
    requests = [
        front.GetVocabularyProbe(pb.GetVocabularyProbeRequest(name=f"{SAE}/features/5")),
        front.ListFeatures(pb.ListFeaturesRequest(sae=SAE, view=pb.FEATURE_VIEW_FULL)),
    ]
    for request in requests:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await request
        error = from_rpc_error(refused.value)
        assert (error.status, error.reason) == ("FAILED_PRECONDITION", "ANNOTATION_NOT_BUILT")


def check_same_facts(kept: feature_pb2.FeatureFacts, computed: feature_pb2.FeatureFacts) -> None:
    assert kept.density_matched_feature == computed.density_matched_feature
    assert kept.decoder_norm == pytest.approx(computed.decoder_norm)
    assert [n.feature for n in kept.neighbors] == [n.feature for n in computed.neighbors]
    for ours, theirs in (
        (kept.promoted_tokens, computed.promoted_tokens),
        (kept.suppressed_tokens, computed.suppressed_tokens),
    ):
        assert [token.token_id for token in ours] == [token.token_id for token in theirs]
        weights = [token.weight for token in theirs]
        assert [token.weight for token in ours] == pytest.approx(weights, rel=1e-3)
    assert len(kept.promoted_tokens) == 20


async def check_probe(front: Any, feature: int) -> None:
    """What is kept against a fresh probe of the same carriers."""
    response = await front.GetVocabularyProbe(
        pb.GetVocabularyProbeRequest(name=f"{SAE}/features/{feature}")
    )
    fresh = await probe(front, feature_indices=[feature], all_values=True)
    facts = (await front.GetFeature(feature_request(feature))).facts
    assert [kept.carrier.name for kept in response.probes] == ["short-1", "short-2", "short-3"]
    for place, kept in enumerate(response.probes):
        values = np.concatenate(
            [
                from_tensor(page.values.activations)[:, 0]
                for page in fresh
                if page.carrier_index == place and page.HasField("values")
            ]
        )
        assert kept.probed_token_count == len(values)
        assert kept.positive_token_count == (values > 0).sum()
        assert kept.active_token_count == (values >= 0.5 * facts.reference_max).sum()
        best = np.sort(values)[::-1][: len(kept.top_tokens)]
        assert [token.activation for token in kept.top_tokens] == pytest.approx(
            best.tolist(), rel=1e-3
        )
        for token in kept.top_tokens:
            share = token.activation / facts.reference_max
            assert token.relative_activation == pytest.approx(share, rel=1e-5)


class Listed:
    def __init__(self, facts_of_5: feature_pb2.FeatureFacts) -> None:
        self.facts_of_5 = facts_of_5


async def check_lists(front: Any) -> Listed:
    """Pages, filters and orders against the whole list."""
    request = pb.ListFeaturesRequest(sae=SAE, page_size=40, view=pb.FEATURE_VIEW_FULL)
    everything: list[feature_pb2.FeatureFacts] = []
    while True:
        page = await front.ListFeatures(request)
        assert page.total_count == tiny.D_SAE
        everything += page.features
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    names = [facts.feature for facts in everything]
    assert names == [f"{SAE}/features/{i}" for i in range(tiny.D_SAE)]
    density = [facts.density for facts in everything]
    low, high = np.quantile(density, [0.25, 0.75])
    some = await front.ListFeatures(
        pb.ListFeaturesRequest(
            sae=SAE,
            page_size=1_000,
            min_density=low,
            max_density=high,
            order=pb.FEATURE_ORDER_DENSITY_FALLING,
            strata=sorted({facts.stratum for facts in everything}),
        )
    )
    found = [facts.density for facts in some.features]
    assert found == sorted((d for d in density if low <= d <= high), reverse=True)
    assert not any(facts.promoted_tokens or facts.quantiles for facts in some.features)
    stratum = everything[0].stratum
    request = pb.ListFeaturesRequest(sae=SAE, strata=[stratum], page_size=1)
    first = await front.ListFeatures(request)
    assert first.total_count == sum(facts.stratum == stratum for facts in everything)
    await check_refused_lists(front)
    return Listed(everything[5])


async def check_refused_lists(front: Any) -> None:
    for field, fields in (
        ("page_token", {"page_token": "7"}),
        ("page_token", {"page_token": "\N{SUPERSCRIPT TWO}.x"}),
        ("page_size", {"page_size": -1}),
        ("min_density", {"min_density": float("nan")}),
        ("max_density", {"max_density": 2.0}),
        ("strata", {"strata": [feature_pb2.FEATURE_STRATUM_UNSPECIFIED]}),
        ("order", {"order": 77}),
        ("view", {"view": 77}),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await front.ListFeatures(pb.ListFeaturesRequest(sae=SAE, **fields))
        error = from_rpc_error(refused.value)
        assert error.status == "INVALID_ARGUMENT"
        assert [violation.field for violation in error.violations] == [field]
