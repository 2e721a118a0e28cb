"""An activation service over the small language of `world`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from saexplain.activation.v1 import activation_pb2, activation_pb2_grpc
from saexplain.common.v1 import feature_pb2, text_pb2, vocabulary_pb2, window_pb2
from services.common.canonical import digest
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.names import parse_feature
from services.common.tensors import to_tensor
from tests.fakes import world
from tests.fakes.script import Script

REFERENCE_MAX = 10.0
SHARD_TOKENS = 1_000


class FakeActivation(activation_pb2_grpc.ActivationServiceServicer):
    """Answers from `world`, exactly."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.shards_done: set[tuple[str, int]] = set()
        self.merged: set[str] = set()

    async def GetSae(self, request: Any, context: Any) -> activation_pb2.GetSaeResponse:
        await self.script.enter("GetSae", request)
        if request.name != world.SAE:
            raise NotFound(f"there is no {request.name}", "SAE_NOT_FOUND")
        return activation_pb2.GetSaeResponse(
            sae=activation_pb2.Sae(
                name=world.SAE,
                model="tiny",
                hook_point="blocks.0.hook_resid_post",
                architecture="topk",
                d_in=4,
                d_sae=world.D_SAE,
                default_index=world.INDEX,
                numerics=activation_pb2.NumericsContract(
                    model_fingerprint="1" * 64,
                    sae_fingerprint="2" * 64,
                    tokenizer_fingerprint="3" * 64,
                ),
            )
        )

    async def GetFeature(self, request: Any, context: Any) -> activation_pb2.GetFeatureResponse:
        await self.script.enter("GetFeature", request)
        _check_index(request.index)
        feature = parse_feature(request.name, "name").index
        values = [c.maximum(feature) for c in world.CORPUS]
        facts = feature_pb2.FeatureFacts(
            feature=request.name,
            density=sum(v > 0 for v in values) / (len(values) * world.WINDOW_TOKENS),
            max_activation=max(values),
            reference_max=REFERENCE_MAX if max(values) > 0 else 0.0,
            promoted_tokens=[text_pb2.WeightedToken(token_id=1, token_bytes=b" the", weight=1.0)],
            neighbors=[feature_pb2.FeatureNeighbor(feature=f"{world.SAE}/features/1", cosine=0.5)]
            if feature != 1
            else [],
        )
        if max(values) > 0:
            facts.density_matched_feature = f"{world.SAE}/features/{(feature + 1) % 3}"
        return activation_pb2.GetFeatureResponse(facts=facts, index=request.index)

    async def ListFeatures(self, request: Any, context: Any) -> activation_pb2.ListFeaturesResponse:
        await self.script.enter("ListFeatures", request)
        _check_index(request.index or world.INDEX)
        dead, eligible = (feature_pb2.FEATURE_STRATUM_DEAD, feature_pb2.FEATURE_STRATUM_ELIGIBLE)
        all_features = [
            feature_pb2.FeatureFacts(
                feature=f"{request.sae}/features/{index}",
                stratum=eligible if world.FEATURES.get(index) else dead,
            )
            for index in range(world.D_SAE)
        ]
        kept = [f for f in all_features if not request.strata or f.stratum in request.strata]
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or 100)
        return activation_pb2.ListFeaturesResponse(
            features=kept[begin:end],
            total_count=len(kept),
            next_page_token=str(end) if end < len(kept) else "",
        )

    async def ListExemplars(
        self, request: Any, context: Any
    ) -> activation_pb2.ListExemplarsResponse:
        await self.script.enter("ListExemplars", request)
        _check_index(request.index)
        feature = parse_feature(request.feature, "feature").index
        return activation_pb2.ListExemplarsResponse(
            lists=[_windows(feature, selection, request.seed) for selection in request.selections]
        )

    async def ListTokenNeighbors(
        self, request: Any, context: Any
    ) -> activation_pb2.ListTokenNeighborsResponse:
        await self.script.enter("ListTokenNeighbors", request)
        return activation_pb2.ListTokenNeighborsResponse(
            neighbors=[
                activation_pb2.TokenNeighbors(
                    token=_weighted(identifier), variants=[_weighted(identifier ^ 1)]
                )
                for identifier in request.token_ids
            ]
        )

    async def GetVocabularyProbe(
        self, request: Any, context: Any
    ) -> activation_pb2.GetVocabularyProbeResponse:
        await self.script.enter("GetVocabularyProbe", request)
        _check_index(request.index)
        feature = parse_feature(request.name, "name").index
        return activation_pb2.GetVocabularyProbeResponse(
            probes=[_short_probe(feature)], index=request.index
        )

    async def ProbeVocabulary(
        self, request: Any, context: Any
    ) -> AsyncIterator[activation_pb2.ProbeVocabularyResponse]:
        await self.script.enter("ProbeVocabulary", request)
        ids = list(request.token_ids)
        tokens = [world.token_of(token) for token in ids]
        values = [[world.value(f, t) for f in request.feature_indices] for t in tokens]
        yield activation_pb2.ProbeVocabularyResponse(total_token_count=len(ids))
        yield activation_pb2.ProbeVocabularyResponse(
            values=activation_pb2.TokenValuesPage(
                token_ids=to_tensor(np.array(ids, dtype=np.int32)),
                activations=to_tensor(np.array(values, dtype=np.float32)),
            )
        )

    async def Encode(
        self, request: Any, context: Any
    ) -> AsyncIterator[activation_pb2.EncodeResponse]:
        await self.script.enter("Encode", request)
        for index, item in enumerate(request.texts):
            yield activation_pb2.EncodeResponse(
                texts=[_encoded(index, _tokens(item), request.feature_indices)],
                backend="in_process",
            )

    async def PlanIndex(self, request: Any, context: Any) -> activation_pb2.PlanIndexResponse:
        await self.script.enter("PlanIndex", request)
        return activation_pb2.PlanIndexResponse(
            key=digest(request.config),
            shard_count=3,
            token_count=3 * SHARD_TOKENS,
            document_count=30,
            built=digest(request.config) in self.merged,
        )

    async def IndexShard(
        self, request: Any, context: Any
    ) -> AsyncIterator[activation_pb2.IndexShardResponse]:
        await self.script.enter("IndexShard", request)
        for part in (1, 2, 3, 4):
            await asyncio.sleep(0)
            yield activation_pb2.IndexShardResponse(
                done_token_count=part * SHARD_TOKENS // 4,
                total_token_count=SHARD_TOKENS,
                tokens_per_second=500.0,
                done=part == 4,
            )
        self.shards_done.add((request.key, request.shard))

    async def MergeIndex(self, request: Any, context: Any) -> activation_pb2.MergeIndexResponse:
        await self.script.enter("MergeIndex", request)
        done = {shard for key, shard in self.shards_done if key == request.key}
        if request.key not in self.merged and len(done) < request.shard_count:
            raise FailedPrecondition("a shard is missing", "ARTIFACT_CORRUPT")
        self.merged.add(request.key)
        return activation_pb2.MergeIndexResponse(
            key=request.key,
            artifact_fingerprint="cd" * 32,
            summary=activation_pb2.IndexSummary(token_count=3 * SHARD_TOKENS, document_count=30),
        )

    async def AnnotateIndex(
        self, request: Any, context: Any
    ) -> AsyncIterator[activation_pb2.AnnotateIndexResponse]:
        await self.script.enter("AnnotateIndex", request)
        if request.key not in self.merged:
            raise FailedPrecondition("there is no index yet", "INDEX_NOT_BUILT")
        yield activation_pb2.AnnotateIndexResponse(done_row_count=1, total_row_count=2)
        yield activation_pb2.AnnotateIndexResponse(
            done_row_count=2, total_row_count=2, done=True, artifact_fingerprint="ef" * 32
        )


def _check_index(index: str) -> None:
    if index != world.INDEX:
        raise FailedPrecondition(f"there is no {index}", "INDEX_NOT_BUILT")


def _short_probe(feature: int) -> vocabulary_pb2.CarrierProbe:
    """What a feature does at its words, behind nothing in particular."""
    words = world.FEATURES.get(feature, ())
    return vocabulary_pb2.CarrierProbe(
        carrier=vocabulary_pb2.Carrier(name="short-1", kind=vocabulary_pb2.CARRIER_KIND_SHORT),
        probed_token_count=2 * len(world.WORDS),
        top_tokens=[
            vocabulary_pb2.TokenActivation(
                token_id=world.token_id(f" {word}"),
                token_bytes=f" {word}".encode(),
                activation=world.value(feature, word),
                relative_activation=world.value(feature, word) / REFERENCE_MAX,
            )
            for word in words
        ],
        positive_token_count=2 * len(words),
        active_token_count=2 * len(words),
    )


def _weighted(identifier: int) -> text_pb2.WeightedToken:
    token = world.token_of(identifier)
    return text_pb2.WeightedToken(token_id=identifier, token_bytes=token.encode(), weight=0.9)


def _tokens(item: activation_pb2.TextInput) -> list[str]:
    if item.WhichOneof("input") == "token_ids":
        return [world.token_of(i) for i in item.token_ids.ids]
    return world.tokenize(item.text)


def _encoded(index: int, tokens: list[str], features: Sequence[int]) -> activation_pb2.EncodedText:
    if not tokens:
        raise InvalidArgument("is empty", f"texts[{index}]", "TEXT_EMPTY")
    values = np.array([[world.value(f, t) for f in features] for t in tokens], dtype=np.float32)
    return activation_pb2.EncodedText(
        text_index=index, tokens=world.span(tokens), activations=to_tensor(values)
    )


def _windows(
    feature: int, selection: window_pb2.WindowSelection, seed: int
) -> activation_pb2.WindowList:
    population = [c for c in world.CORPUS if c.split == selection.split]
    active = [c for c in population if c.maximum(feature) > 0]
    silent = [c for c in population if c.maximum(feature) == 0]
    if selection.strategy == window_pb2.WINDOW_STRATEGY_TOP:
        chosen = sorted(active, key=lambda c: (-c.maximum(feature), c.name))[: selection.count]
        probability = 1.0
    else:
        quiet = (
            window_pb2.WINDOW_STRATEGY_NON_ACTIVATING,
            window_pb2.WINDOW_STRATEGY_NEAR_MISS,
        )
        pool = silent if selection.strategy in quiet else active
        count = min(selection.count, len(pool))
        chosen = random.Random(seed).sample(pool, count)
        chosen.sort(key=lambda c: c.name)
        probability = count / len(pool) if pool else 1.0
    return activation_pb2.WindowList(
        selection=selection,
        windows=[c.window(feature, selection.strategy, probability) for c in chosen],
    )
