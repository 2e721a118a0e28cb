"""Where the quality benchmark reads features from: an index folder in this process, or a
running activation service. Both answer with the messages of the contracts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from saexplain.activation.v1 import activation_pb2, activation_pb2_grpc
from saexplain.common.v1 import feature_pb2, text_pb2, window_pb2
from services.activation import messages
from services.activation.encoder.encode import Encoder
from services.activation.encoder.facts import token_cosines
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.sae import Sae, load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.encoder.tokenizer import TextLimits, TokenizedText, load_tokenizer
from services.activation.index.reader import open_index
from services.activation.vocabulary.neighbors import neighbors
from services.common.grpc_client import open_channel, rpc_errors

ELIGIBLE = feature_pb2.FEATURE_STRATUM_ELIGIBLE
LEFT_CONTEXT_TOKENS = 32


class Source(Protocol):
    """Facts, windows, neighbours and, where a model is at hand, encodings."""

    feature_count: int
    can_encode: bool

    async def facts(self, feature: int) -> feature_pb2.FeatureFacts:
        """What is known of a feature."""

    async def windows(
        self,
        feature: int,
        selections: Sequence[window_pb2.WindowSelection],
        seed: int,
        left_tokens: int = LEFT_CONTEXT_TOKENS,
    ) -> list[activation_pb2.WindowList]:
        """Windows of the index."""

    async def neighbors(
        self, token_ids: Sequence[int], count: int
    ) -> list[activation_pb2.TokenNeighbors]:
        """Spelling variants and embedding neighbours; empty without a model."""

    async def encode(self, feature: int, texts: Sequence[str]) -> list[activation_pb2.EncodedText]:
        """The feature's activation at every token of some texts."""

    async def encode_ids(
        self, feature: int, rows: Sequence[Sequence[int]]
    ) -> list[activation_pb2.EncodedText]:
        """The same for token ids, without the first token."""


class FolderSource:
    """An index folder, and model and SAE folders where they are given."""

    def __init__(self, index: Path, model: Path, sae: Path | None) -> None:
        self._reader = open_index(index)
        self._tokenizer = load_tokenizer(ModelSource(str(model)))
        self._vocabulary = self._tokenizer.vocabulary_bytes
        self.feature_count = self._reader.feature_count
        self.can_encode = sae is not None
        self._sae: Sae | None = load_sae(SaeSource(str(sae))) if sae is not None else None
        self._model: CutModel | None = None
        if self._sae is not None:
            layers = self._sae.config.hook.layer_count
            self._model = load_model(ModelSource(str(model)), layers)

    async def facts(self, feature: int) -> feature_pb2.FeatureFacts:
        """What the index alone says."""
        numbers = self._reader.numbers(feature)
        return feature_pb2.FeatureFacts(
            feature=f"saes/folder/features/{feature}",
            density=numbers.density,
            max_activation=numbers.maximum,
            reference_max=numbers.reference_max,
            stratum=feature_pb2.FeatureStratum.Value(f"FEATURE_STRATUM_{numbers.stratum.name}"),
        )

    async def windows(
        self,
        feature: int,
        selections: Sequence[window_pb2.WindowSelection],
        seed: int,
        left_tokens: int = LEFT_CONTEXT_TOKENS,
    ) -> list[activation_pb2.WindowList]:
        """One list per selection."""
        return [
            activation_pb2.WindowList(
                selection=s,
                windows=[
                    messages.corpus_window(w, self._reader.key, s.strategy, self._vocabulary)
                    for w in self._reader.exemplars(
                        feature,
                        messages.parse_strategy(s.strategy, "strategy"),
                        messages.parse_split(s.split, "split"),
                        s.count,
                        seed=seed,
                        left_token_count=left_tokens,
                    )
                ],
            )
            for s in selections
        ]

    async def neighbors(
        self, token_ids: Sequence[int], count: int
    ) -> list[activation_pb2.TokenNeighbors]:
        """From the model's input embedding."""
        if self._model is None:
            return []
        found = []
        for token_id in token_ids:
            cosines = token_cosines(self._model, token_id)
            variants, others = neighbors(token_id, cosines, self._tokenizer, count)
            found.append(
                activation_pb2.TokenNeighbors(
                    token=text_pb2.WeightedToken(
                        token_id=token_id, token_bytes=self._vocabulary[token_id], weight=1.0
                    ),
                    variants=messages.weighted_tokens(variants, self._vocabulary),
                    neighbors=messages.weighted_tokens(others, self._vocabulary),
                )
            )
        return found

    async def encode(self, feature: int, texts: Sequence[str]) -> list[activation_pb2.EncodedText]:
        """With the model and SAE loaded here."""
        return self._encode(feature, self._tokenizer.tokenize(list(texts), TextLimits()))

    async def encode_ids(
        self, feature: int, rows: Sequence[Sequence[int]]
    ) -> list[activation_pb2.EncodedText]:
        """With the model and SAE loaded here."""
        given = [self._tokenizer.describe_ids(np.array(row, np.int64)) for row in rows]
        return self._encode(feature, given)

    def _encode(
        self, feature: int, cut: Sequence[TokenizedText]
    ) -> list[activation_pb2.EncodedText]:
        assert self._model is not None and self._sae is not None
        encoder = Encoder(self._model)
        rows = encoder.encode(self._sae, [t.ids for t in cut], np.array([feature]))
        return [
            messages.encoded_text(i, text, row)
            for i, (text, row) in enumerate(zip(cut, rows, strict=True))
        ]


class ServiceSource:
    """A running activation service."""

    def __init__(self, stub: activation_pb2_grpc.ActivationServiceStub, sae: str) -> None:
        self._stub = stub
        self._sae = sae
        self.feature_count = 0
        self.can_encode = True

    @classmethod
    async def connect(cls, address: str, sae: str) -> ServiceSource:
        """Asks the service for the SAE's size."""
        source = cls(activation_pb2_grpc.ActivationServiceStub(open_channel(address)), sae)
        async with rpc_errors():
            answer = await source._stub.GetSae(activation_pb2.GetSaeRequest(name=sae))
        source.feature_count = answer.sae.d_sae
        return source

    async def facts(self, feature: int) -> feature_pb2.FeatureFacts:
        """GetFeature."""
        request = activation_pb2.GetFeatureRequest(name=f"{self._sae}/features/{feature}")
        async with rpc_errors():
            return (await self._stub.GetFeature(request)).facts

    async def windows(
        self,
        feature: int,
        selections: Sequence[window_pb2.WindowSelection],
        seed: int,
        left_tokens: int = LEFT_CONTEXT_TOKENS,
    ) -> list[activation_pb2.WindowList]:
        """ListExemplars."""
        request = activation_pb2.ListExemplarsRequest(
            feature=f"{self._sae}/features/{feature}",
            selections=selections,
            left_context_token_count=left_tokens,
            seed=seed,
        )
        async with rpc_errors():
            return list((await self._stub.ListExemplars(request)).lists)

    async def neighbors(
        self, token_ids: Sequence[int], count: int
    ) -> list[activation_pb2.TokenNeighbors]:
        """ListTokenNeighbors."""
        if not token_ids:
            return []
        request = activation_pb2.ListTokenNeighborsRequest(
            sae=self._sae, token_ids=token_ids, count=count
        )
        async with rpc_errors():
            return list((await self._stub.ListTokenNeighbors(request)).neighbors)

    async def encode(self, feature: int, texts: Sequence[str]) -> list[activation_pb2.EncodedText]:
        """Encode."""
        return await self._encode(feature, [activation_pb2.TextInput(text=t) for t in texts])

    async def encode_ids(
        self, feature: int, rows: Sequence[Sequence[int]]
    ) -> list[activation_pb2.EncodedText]:
        """Encode."""
        ids = (activation_pb2.TokenIds(ids=row) for row in rows)
        return await self._encode(feature, [activation_pb2.TextInput(token_ids=i) for i in ids])

    async def _encode(
        self, feature: int, inputs: Sequence[activation_pb2.TextInput]
    ) -> list[activation_pb2.EncodedText]:
        request = activation_pb2.EncodeRequest(
            sae=self._sae, texts=inputs, feature_indices=[feature]
        )
        async with rpc_errors():
            return [text async for page in self._stub.Encode(request) for text in page.texts]
