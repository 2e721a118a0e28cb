"""A source that asks another one only once for what several scoring methods want of one
feature: most of them read the same windows, and their baselines write the same texts."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lexical_sources import LEFT_CONTEXT_TOKENS, Source
from saexplain.activation.v1 import activation_pb2
from saexplain.common.v1 import feature_pb2, window_pb2


class RememberingSource:
    """Remembers windows and encodings of the feature it was asked for last."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.feature_count = source.feature_count
        self.can_encode = source.can_encode
        self._feature: int | None = None
        self._lists: dict[tuple[bytes, int, int], activation_pb2.WindowList] = {}
        self._encoded: dict[str, activation_pb2.EncodedText] = {}

    async def facts(self, feature: int) -> feature_pb2.FeatureFacts:
        """As of the source."""
        return await self._source.facts(feature)

    async def windows(
        self,
        feature: int,
        selections: Sequence[window_pb2.WindowSelection],
        seed: int,
        left_tokens: int = LEFT_CONTEXT_TOKENS,
    ) -> list[activation_pb2.WindowList]:
        """One list per selection."""
        self._turn_to(feature)
        keys = [(s.SerializeToString(deterministic=True), seed, left_tokens) for s in selections]
        missing = [
            s
            for place, (s, key) in enumerate(zip(selections, keys, strict=True))
            if key not in self._lists and key not in keys[:place]
        ]
        if missing:
            for found in await self._source.windows(feature, missing, seed, left_tokens):
                key = (found.selection.SerializeToString(deterministic=True), seed, left_tokens)
                self._lists[key] = found
        return [self._lists[key] for key in keys]

    async def neighbors(
        self, token_ids: Sequence[int], count: int
    ) -> list[activation_pb2.TokenNeighbors]:
        """As of the source."""
        return await self._source.neighbors(token_ids, count)

    async def encode(self, feature: int, texts: Sequence[str]) -> list[activation_pb2.EncodedText]:
        """One per text, numbered in their order."""
        self._turn_to(feature)
        missing = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if missing:
            for encoded in await self._source.encode(feature, missing):
                self._encoded[missing[encoded.text_index]] = encoded
        return [_numbered(self._encoded[text], place) for place, text in enumerate(texts)]

    async def encode_ids(
        self, feature: int, rows: Sequence[Sequence[int]]
    ) -> list[activation_pb2.EncodedText]:
        """As of the source."""
        return await self._source.encode_ids(feature, rows)

    def _turn_to(self, feature: int) -> None:
        if feature != self._feature:
            self._feature = feature
            self._lists.clear()
            self._encoded.clear()


def _numbered(encoded: activation_pb2.EncodedText, place: int) -> activation_pb2.EncodedText:
    copy = activation_pb2.EncodedText()
    copy.CopyFrom(encoded)
    copy.text_index = place
    return copy
