"""The service over gRPC: an index is built, evidence is read, bad input is refused in words.

Load-bearing: ``test_exemplars_encode_to_the_activations_they_carry``, which sends the windows of
the index back through ``Encode``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.common.v1 import feature_pb2, window_pb2
from services.common.grpc_client import from_rpc_error
from services.common.tensors import from_tensor
from tests.activation import tiny
from tests.activation.stack import front_stub, indexer_stub, settings, write_registry

SAE = "saes/tiny"
STRATEGIES = [
    window_pb2.WINDOW_STRATEGY_TOP,
    window_pb2.WINDOW_STRATEGY_QUANTILE,
    window_pb2.WINDOW_STRATEGY_RANDOM_ACTIVE,
    window_pb2.WINDOW_STRATEGY_NON_ACTIVATING,
    window_pb2.WINDOW_STRATEGY_NEAR_MISS,
]
SPLITS = [window_pb2.SPLIT_EXPLAIN, window_pb2.SPLIT_SELECT, window_pb2.SPLIT_HELDOUT]


@pytest.fixture
def chosen(tmp_path: Path, model_folder: Path, sae_folder: Path) -> Any:
    registry = write_registry(tmp_path / "registry.yaml", model_folder, sae_folder)
    return settings(registry, tmp_path, page_bytes=4_096, page_token_count=200)


def index_config(corpus: Path, **overrides: Any) -> pb.IndexConfig:
    sizes = {"context_token_count": 48, "window_token_count": 12}
    return pb.IndexConfig(sae=SAE, corpus=str(corpus), **{**sizes, **overrides})


async def build(stub: Any, config: pb.IndexConfig) -> tuple[pb.MergeIndexResponse, list[Any]]:
    plan = await stub.PlanIndex(pb.PlanIndexRequest(config=config, shard_token_count=2_000))
    progress = []
    for shard in range(plan.shard_count):
        request = pb.IndexShardRequest(
            config=config, key=plan.key, shard=shard, shard_count=plan.shard_count
        )
        progress.append([step async for step in stub.IndexShard(request)])
    merged = await stub.MergeIndex(
        pb.MergeIndexRequest(config=config, key=plan.key, shard_count=plan.shard_count)
    )
    return merged, progress


async def encode(stub: Any, texts: list[Any], features: list[int]) -> list[pb.EncodedText]:
    inputs = [
        pb.TextInput(text=t) if isinstance(t, str) else pb.TextInput(token_ids=pb.TokenIds(ids=t))
        for t in texts
    ]
    request = pb.EncodeRequest(sae=SAE, texts=inputs, feature_indices=features)
    return [text async for page in stub.Encode(request) for text in page.texts]


async def test_an_index_is_built_once_and_read(chosen: Any, corpus_path: Path) -> None:
    """Guards against a repeat that sweeps again, and an index that the front does not find."""
    config = index_config(corpus_path)
    async with indexer_stub(chosen) as stub:
        merged, progress = await build(stub, config)
        assert all(steps[-1].done for steps in progress)
        assert all(s[-1].done_token_count == s[-1].total_token_count for s in progress)
        again, _ = await build(stub, config)
        assert again == merged
        plan = await stub.PlanIndex(pb.PlanIndexRequest(config=config))
        assert plan.built
    assert merged.summary.token_count > 4_000
    assert sum(split.window_count for split in merged.summary.splits) > 400
    assert not list((chosen.index_dir / ".work").iterdir())
    async with front_stub(chosen) as stub:
        sae = (await stub.GetSae(pb.GetSaeRequest(name=SAE))).sae
        assert sae.default_index == f"projects/default/indexes/{merged.key[:16]}"
        assert (sae.d_sae, sae.hook_point) == (tiny.D_SAE, tiny.HOOK)
        assert sae.numerics.bos_token_id == 1
        facts = (await stub.GetFeature(pb.GetFeatureRequest(name=f"{SAE}/features/5"))).facts
        assert facts.max_activation >= facts.reference_max > 0
        assert len(facts.promoted_tokens) == len(facts.suppressed_tokens) == 20
        assert facts.stratum != feature_pb2.FEATURE_STRATUM_UNSPECIFIED
        assert facts.density_matched_feature.startswith(f"{SAE}/features/")


async def test_exemplars_encode_to_the_activations_they_carry(
    chosen: Any, corpus_path: Path
) -> None:
    """Guards against evidence that the model does not bear out."""
    async with indexer_stub(chosen) as stub:
        await build(stub, index_config(corpus_path))
    async with front_stub(chosen) as stub:
        request = pb.ListExemplarsRequest(
            feature=f"{SAE}/features/5", left_context_token_count=64, seed=1
        )
        for strategy in STRATEGIES:
            for split in SPLITS:
                request.selections.add(strategy=strategy, split=split, count=4)
        response = await stub.ListExemplars(request)
        facts = (await stub.GetFeature(pb.GetFeatureRequest(name=f"{SAE}/features/5"))).facts
        windows = [window for one in response.lists for window in one.windows]
        assert len(windows) > 40
        texts = [[*w.left_context.token_ids, *w.tokens.token_ids] for w in windows]
        encoded = await encode(stub, texts, [5])
        for window, text in zip(windows, encoded, strict=True):
            assert window.context_position == len(window.left_context.token_ids)
            values = from_tensor(text.activations)[window.context_position :, 0]
            np.testing.assert_allclose(window.activations, values, atol=1e-4 * facts.reference_max)
            assert window.max_activation == pytest.approx(max(window.activations))
        for one in response.lists:
            assert {w.strategy for w in one.windows} <= {one.selection.strategy}
            assert {w.split for w in one.windows} <= {one.selection.split}
            assert all(0 < w.inclusion_probability <= 1 for w in one.windows)


async def test_pages_hold_every_text_in_order_and_dense_equals_sparse(chosen: Any) -> None:
    rng = np.random.default_rng(0)
    texts: list[Any] = [tiny.sentences(rng, int(n)) for n in rng.integers(1, 60, 40)]
    features = list(range(0, tiny.D_SAE, 3))
    async with front_stub(chosen) as stub:
        dense = await encode(stub, texts, features)
        assert [text.text_index for text in dense] == list(range(40))
        for text, encoded in zip(texts, dense, strict=True):
            assert b"".join(encoded.tokens.token_bytes).decode() == text
            assert encoded.activations.shape == [len(encoded.tokens.token_ids), len(features)]
            assert encoded.scored_begin == 0
        request = pb.EncodeSparseRequest(
            sae=SAE, texts=[pb.TextInput(text=text) for text in texts], above=0.0
        )
        pages = [page async for page in stub.EncodeSparse(request)]
        assert len(pages) > 1
        sparse = [text for page in pages for text in page.texts]
        for one, other in zip(dense, sparse, strict=True):
            rebuilt = np.zeros((len(one.tokens.token_ids), tiny.D_SAE), np.float32)
            offsets = from_tensor(other.row_offsets)
            rows = np.repeat(np.arange(len(rebuilt)), np.diff(offsets))
            rebuilt[rows, from_tensor(other.feature_indices)] = from_tensor(other.activations)
            np.testing.assert_allclose(
                rebuilt[:, features], from_tensor(one.activations), atol=1e-3
            )
        request = pb.EncodeSparseRequest(sae=SAE, texts=[pb.TextInput(text="the cat")], top_k=2)
        (page,) = [page async for page in stub.EncodeSparse(request)]
        assert set(np.diff(from_tensor(page.texts[0].row_offsets)).tolist()) <= {0, 1, 2}


async def test_token_neighbors_list_variants_apart(chosen: Any) -> None:
    async with front_stub(chosen) as stub:
        (encoded,) = await encode(stub, ["a"], [0])
        token = encoded.tokens.token_ids[0]
        request = pb.ListTokenNeighborsRequest(sae=SAE, token_ids=[token], count=5)
        (found,) = (await stub.ListTokenNeighbors(request)).neighbors
        assert found.token.token_bytes == b"a"
        assert b"A" in [variant.token_bytes for variant in found.variants]
        weights = [neighbor.weight for neighbor in found.neighbors]
        assert weights == sorted(weights, reverse=True)
        ids = {n.token_id for n in found.neighbors} | {v.token_id for v in found.variants}
        assert len(weights) == 5
        assert token not in ids


def text(value: str) -> pb.TextInput:
    return pb.TextInput(text=value)


def encode_request(**overrides: Any) -> pb.EncodeRequest:
    values: dict[str, Any] = {"sae": SAE, "texts": [text("a")], "feature_indices": [0]}
    return pb.EncodeRequest(**{**values, **overrides})


def ids(*values: int) -> pb.TextInput:
    return pb.TextInput(token_ids=pb.TokenIds(ids=values))


FEATURE = f"{SAE}/features/3"
TOP = {"strategy": window_pb2.WINDOW_STRATEGY_TOP, "split": window_pb2.SPLIT_EXPLAIN, "count": 1}

REFUSALS: list[tuple[str, Callable[[], Any], str, str, str]] = [
    ("Encode", lambda: encode_request(sae="saes/other"), "NOT_FOUND", "SAE_NOT_FOUND", ""),
    ("Encode", lambda: encode_request(sae="tiny"), "INVALID_ARGUMENT", "FIELD_INVALID", "sae"),
    (
        *("Encode", lambda: encode_request(feature_indices=[1, 96])),
        *("INVALID_ARGUMENT", "FEATURE_OUT_OF_RANGE", "feature_indices[1]"),
    ),
    (
        *("Encode", lambda: encode_request(feature_indices=[1, 1])),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "feature_indices[1]"),
    ),
    (
        *("Encode", lambda: encode_request(feature_indices=[])),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "feature_indices"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[text("a"), text("")])),
        *("INVALID_ARGUMENT", "TEXT_EMPTY", "texts[1]"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[text("a"), pb.TextInput()])),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "texts[1]"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[text("a" * 70_000)])),
        *("INVALID_ARGUMENT", "TEXT_TOO_LONG", "texts[0]"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[text("?!" * 200)])),
        *("INVALID_ARGUMENT", "TEXT_TOO_LONG", "texts[0]"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[])),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "texts"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[ids(5, 400)])),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "texts[0].token_ids.ids[1]"),
    ),
    (
        *("Encode", lambda: encode_request(texts=[ids()])),
        *("INVALID_ARGUMENT", "TEXT_EMPTY", "texts[0].token_ids"),
    ),
    (
        *("EncodeSparse", lambda: pb.EncodeSparseRequest(sae=SAE, texts=[text("a")])),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "selection"),
    ),
    (
        "EncodeSparse",
        lambda: pb.EncodeSparseRequest(sae=SAE, texts=[text("a")], above=float("nan")),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "above"),
    ),
    (
        *("GetFeature", lambda: pb.GetFeatureRequest(name=FEATURE)),
        *("FAILED_PRECONDITION", "INDEX_NOT_BUILT", ""),
    ),
    (
        "ListExemplars",
        lambda: pb.ListExemplarsRequest(
            feature=FEATURE,
            index="projects/default/indexes/0123456789abcdef",
            selections=[window_pb2.WindowSelection(**TOP)],
        ),
        *("FAILED_PRECONDITION", "INDEX_NOT_BUILT", ""),
    ),
    (
        "ListExemplars",
        lambda: pb.ListExemplarsRequest(
            feature=FEATURE, selections=[window_pb2.WindowSelection(**{**TOP, "count": 0})]
        ),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "selections[0].count"),
    ),
    (
        *("ListExemplars", lambda: pb.ListExemplarsRequest(feature=FEATURE)),
        *("INVALID_ARGUMENT", "TOO_MANY_ITEMS", "selections"),
    ),
    (
        "SearchWindows",
        lambda: pb.SearchWindowsRequest(sae=SAE, token_ids=[1], count=1),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "split"),
    ),
    (
        *("ListTokenNeighbors", lambda: pb.ListTokenNeighborsRequest(sae=SAE, count=3)),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "token_ids"),
    ),
    (
        *("ListSaes", lambda: pb.ListSaesRequest(page_size=-1)),
        *("INVALID_ARGUMENT", "FIELD_INVALID", "page_size"),
    ),
    ("PlanIndex", pb.PlanIndexRequest, "UNIMPLEMENTED", "UNSUPPORTED", ""),
    ("IndexShard", pb.IndexShardRequest, "UNIMPLEMENTED", "UNSUPPORTED", ""),
]


@pytest.mark.parametrize(("method", "request_of", "status", "reason", "field"), REFUSALS)
async def test_bad_input_is_refused_with_reason_and_field(
    chosen: Any, method: str, request_of: Any, status: str, reason: str, field: str
) -> None:
    """Guards against INTERNAL, and against refusals that do not say what is wrong."""
    async with front_stub(chosen.model_copy(update={"max_text_tokens": 200})) as stub:
        call = getattr(stub, method)(request_of())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [page async for page in call] if hasattr(call, "__aiter__") else await call
    error = from_rpc_error(caught.value)
    assert (error.status, error.reason) == (status, reason)
    assert [violation.field for violation in error.violations] == ([field] if field else [])


INDEX_REFUSALS = [
    ({"corpus": ""}, "INVALID_ARGUMENT", "config.corpus"),
    ({"window_token_count": 48}, "INVALID_ARGUMENT", "config.window_token_count"),
    ({"context_token_count": 8}, "INVALID_ARGUMENT", "config.context_token_count"),
    ({"corpus": "/nowhere.jsonl.zst"}, "FAILED_PRECONDITION", ""),
    ({"sae": "saes/other"}, "NOT_FOUND", ""),
    ({"max_document_count": 2}, "INVALID_ARGUMENT", "corpus"),
]


@pytest.mark.parametrize(("change", "status", "field"), INDEX_REFUSALS)
async def test_a_senseless_index_is_refused(
    chosen: Any, corpus_path: Path, change: dict[str, Any], status: str, field: str
) -> None:
    config = pb.IndexConfig()
    config.CopyFrom(index_config(corpus_path))
    for name, value in change.items():
        setattr(config, name, value)
    async with indexer_stub(chosen) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.PlanIndex(pb.PlanIndexRequest(config=config))
    error = from_rpc_error(caught.value)
    assert error.status == status
    assert [violation.field for violation in error.violations] == ([field] if field else [])


async def test_a_cancelled_sweep_stops_and_a_later_one_is_whole(
    chosen: Any, tmp_path: Path
) -> None:
    """Guards against a sweep that goes on for a caller who has left. The turn of an indexer is
    given back when the sweep's thread has ended: had it gone on to its end, its part were there."""
    corpus = tiny.write_corpus(tmp_path / "long.jsonl.zst", document_count=600)
    config = index_config(corpus)
    async with indexer_stub(chosen) as stub:
        plan = await stub.PlanIndex(pb.PlanIndexRequest(config=config))
        request = pb.IndexShardRequest(config=config, key=plan.key, shard=0, shard_count=1)
        call = stub.IndexShard(request)
        first = await call.read()
        call.cancel()
        assert first.done_token_count < first.total_token_count
        assert (await stub.PlanIndex(pb.PlanIndexRequest(config=config))).key == plan.key
        work = chosen.index_dir / ".work" / plan.key
        assert [path.name for path in work.iterdir() if "part" in path.name] == []
        again = [step async for step in stub.IndexShard(request)]
        assert again[-1].done
        assert again[-1].done_token_count == first.total_token_count
        repeated = [step async for step in stub.IndexShard(request)]
        assert [step.tokens_per_second for step in repeated] == [0.0] * len(repeated)


async def test_two_indexers_share_the_shards_of_one_index(chosen: Any, tmp_path: Path) -> None:
    """Guards against parts that only their own process can merge, and against an index that is
    not found under the name that the public API gave it."""
    corpus = tiny.write_corpus(tmp_path / "long.jsonl.zst", document_count=600)
    config = index_config(corpus)
    async with indexer_stub(chosen) as one, indexer_stub(chosen) as other:
        plan = await one.PlanIndex(pb.PlanIndexRequest(config=config, shard_token_count=2_000))
        assert plan.shard_count > 1
        for shard in reversed(range(plan.shard_count)):
            request = pb.IndexShardRequest(
                config=config, key=plan.key, shard=shard, shard_count=plan.shard_count
            )
            steps = [step async for step in (one, other)[shard % 2].IndexShard(request)]
            assert steps[-1].done
        merged = await other.MergeIndex(
            pb.MergeIndexRequest(
                config=config, key=plan.key, shard_count=plan.shard_count, index_id="other-name"
            )
        )
    assert merged.key == plan.key
    async with front_stub(chosen) as stub:
        for name in ("other-name", plan.key[:16]):
            asked = pb.GetFeatureRequest(
                name=f"{SAE}/features/5", index=f"projects/default/indexes/{name}"
            )
            assert (await stub.GetFeature(asked)).facts.reference_max > 0


async def test_near_misses_come_on_the_rungs_asked_for(chosen: Any, corpus_path: Path) -> None:
    async with indexer_stub(chosen) as stub:
        await build(stub, index_config(corpus_path))
    near_miss = window_pb2.WINDOW_STRATEGY_NEAR_MISS
    same, neighbor = window_pb2.NEGATIVE_RUNG_SAME_TOKEN, window_pb2.NEGATIVE_RUNG_NEIGHBOR
    explain = window_pb2.SPLIT_EXPLAIN
    async with front_stub(chosen) as stub:

        async def rungs_of(**selection: Any) -> set[int]:
            asked = window_pb2.WindowSelection(
                **{"strategy": near_miss, "split": explain, "count": 50, **selection}
            )
            found = set()
            for feature in range(8):
                request = pb.ListExemplarsRequest(
                    feature=f"{SAE}/features/{feature}", selections=[asked]
                )
                response = await stub.ListExemplars(request)
                found |= {window.negative_rung for window in response.lists[0].windows}
            return found

        assert await rungs_of() == {same}
        assert await rungs_of(rungs=[same, neighbor]) == {same, neighbor}
        silent = window_pb2.WINDOW_STRATEGY_NON_ACTIVATING
        assert await rungs_of(strategy=silent) == {window_pb2.NEGATIVE_RUNG_RANDOM}
        for bad in (
            {"rungs": [same, same]},
            {"rungs": [window_pb2.NEGATIVE_RUNG_MINIMAL_PAIR]},
            {"rungs": [same], "strategy": silent},
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rungs_of(**bad)
            violations = from_rpc_error(caught.value).violations
            assert [violation.field for violation in violations] == ["selections[0].rungs"]


async def test_shards_of_another_plan_and_holes_are_refused(chosen: Any, corpus_path: Path) -> None:
    config = index_config(corpus_path)
    async with indexer_stub(chosen) as stub:
        plan = await stub.PlanIndex(pb.PlanIndexRequest(config=config, shard_token_count=2_000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            request = pb.IndexShardRequest(config=config, key="0" * 64, shard=0, shard_count=1)
            _ = [step async for step in stub.IndexShard(request)]
        assert from_rpc_error(caught.value).reason == "FINGERPRINT_MISMATCH"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.MergeIndex(
                pb.MergeIndexRequest(config=config, key=plan.key, shard_count=plan.shard_count)
            )
        assert from_rpc_error(caught.value).reason == "ARTIFACT_CORRUPT"
