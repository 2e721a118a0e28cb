"""Embeddings from an OpenAI-compatible `/v1/embeddings` endpoint, through the journal of
calls: a vector is bought once.

    model = open_embedding_model(settings, model="text-embedding-3-small", ...)
    vectors, usage = await model.embed(scope, texts)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import openai
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.common.v1 import usage_pb2 as pb
from services.common.canonical import digest_of
from services.common.database import create_engine
from services.common.errors import (
    Aborted,
    FailedPrecondition,
    ResourceExhausted,
    SaexplainError,
    Unavailable,
)
from services.common.llm.calls import CallFacts, CallKey, CallRecord, Completion, TokenCounts
from services.common.llm.journal import CallJournal
from services.common.llm.limits import Limiter
from services.common.llm.prices import PriceList, load_prices
from services.common.llm.settings import LlmSettings
from services.common.llm.usage import to_usage
from services.common.llm.wire import read_error, retry_after_seconds

Vectors = NDArray[np.float32]
"""One row per text, finite, none all 0."""

_RETRYABLE = frozenset({408, 409, 425, 429})
_SCHEMA_NAME = "embed_texts"


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _WireEmbedding(_Wire):
    index: int
    embedding: list[FiniteFloat]


class _WireUsage(_Wire):
    prompt_tokens: int = 0


class _WireEmbeddings(_Wire):
    data: list[_WireEmbedding]
    usage: _WireUsage = _WireUsage()


class EmbeddingModel:
    """One embedding model of one endpoint.

    Args:
        client: of the endpoint; its own retries are off.
        model: the provider's name of the model.
        journal: where vectors are kept.
        engine: of the journal's database, closed with this; None if it is the caller's.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        model: str,
        journal: CallJournal,
        prices: PriceList,
        engine: AsyncEngine | None = None,
    ) -> None:
        self.model = model
        self._client = client
        self._journal = journal
        self._prices = prices
        self._engine = engine

    async def embed(
        self, scope: pb.JournalScope, texts: Sequence[str]
    ) -> tuple[Vectors, pb.LlmUsage]:
        """The vectors of at least one text, each not empty, in one request.

        Raises:
            ResourceExhausted: RATE_LIMITED (with the provider's delay), BUDGET_EXHAUSTED.
            Unavailable: LLM_UNAVAILABLE, or BACKEND_UNAVAILABLE for the database.
            FailedPrecondition: LLM_REQUEST_REJECTED.
            Aborted: LLM_REPLY_UNUSABLE: another number of vectors, of several lengths, not
                finite, or all 0.
        """
        hashed = digest_of({"model": self.model, "embed": list(texts)})
        key = CallKey(scope.owner, scope.step, scope.round, scope.ordinal, hashed)
        price = self._prices.find(self._client.base_url.host, self.model)

        async def send() -> Completion:
            return await self._send(texts)

        records = await self._journal.call(key, self._facts(texts), send, price)
        last = records[-1]
        if last.failure is not None:
            raise _provider_error(last)
        if last.outcome != pb.LLM_CALL_OUTCOME_OK:
            raise Aborted(f"the embeddings cannot be used: {last.detail}", "LLM_REPLY_UNUSABLE")
        return _unpacked(last.text), to_usage(records)

    async def aclose(self, drain_seconds: float = 20.0) -> None:
        """Waits for calls in flight, but not for long, then closes the connections."""
        await self._journal.drain(drain_seconds)
        await self._client.close()
        if self._engine is not None:
            await self._engine.dispose()

    async def _send(self, texts: Sequence[str]) -> Completion:
        try:
            raw = await self._client.embeddings.with_raw_response.create(
                model=self.model, input=list(texts), encoding_format="float"
            )
            body = raw.http_response.content
        except openai.APIStatusError as error:
            return _refused(error)
        except openai.APIError as error:
            return Completion(
                pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
                detail=f"no answer: {type(error.__cause__ or error).__name__}",
                failure="unavailable",
                maybe_charged=True,
            )
        return _read(body, len(texts))

    def _facts(self, texts: Sequence[str]) -> CallFacts:
        # No tokenizer makes more tokens of a text than it has bytes.
        worst = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        price = self._prices.find(self._client.base_url.host, self.model)
        cost: Decimal | None = None
        if price is not None:
            cost = price.cost(TokenCounts(prompt=worst))
        return CallFacts(
            model=self.model,
            schema_name=_SCHEMA_NAME,
            prompt_fingerprint="",
            reserved_token_count=worst,
            reserved_cost=cost,
            currency_code=self._prices.currency_code if cost is not None else "",
            endpoint=self._client.base_url.netloc.decode("ascii"),
        )


def open_embedding_model(
    settings: LlmSettings, model: str, api_key: str | None = None, base_url: str | None = None
) -> EmbeddingModel | None:
    """The embedding model of a name; None where provider, journal or name is missing.

    Args:
        settings: provider and journal of the chat models.
        api_key: of another provider of embeddings; None for the settings' own.
        base_url: likewise, with its `/v1`.

    Raises:
        InvalidArgument: the database URL is none.
        OSError, ValueError: the price list cannot be read.
    """
    own = settings.api_key.get_secret_value() if settings.api_key else None
    provider = api_key or base_url or own or settings.base_url
    if not model or not provider or settings.database_url is None:
        return None
    # A key goes to the provider that it is for.
    key = api_key if base_url else api_key or own
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url or settings.base_url,
        max_retries=0,
        timeout=openai.Timeout(settings.request_timeout_seconds, connect=10.0),
    )
    engine = create_engine(settings.database_url.get_secret_value())
    journal = CallJournal(
        engine, lease_seconds=settings.lease_seconds, limiter=Limiter(settings.rate_policy)
    )
    return EmbeddingModel(client, model, journal, load_prices(settings.prices_file), engine)


def _refused(error: openai.APIStatusError) -> Completion:
    status, told = error.status_code, read_error(error.body)
    detail = f"HTTP {status}: {told.message[:300]}"
    repeatable = status in _RETRYABLE or status >= 500
    if not repeatable or (status == 429 and told.code == "insufficient_quota"):
        return Completion(
            pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
            detail=detail,
            failure="rejected",
            http_status=status,
        )
    return Completion(
        pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
        detail=detail,
        failure="rate_limited" if status == 429 else "unavailable",
        http_status=status,
        retry_after_seconds=retry_after_seconds(error.response.headers),
    )


def _read(body: bytes, count: int) -> Completion:
    try:
        reply = _WireEmbeddings.model_validate_json(body)
    except ValidationError:
        return Completion(
            pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
            detail="the answer holds no embeddings",
            failure="unavailable",
            maybe_charged=True,
        )
    tokens = TokenCounts(prompt=max(0, reply.usage.prompt_tokens))
    rows = {entry.index: entry.embedding for entry in reply.data}
    lengths = {len(row) for row in rows.values()}
    if sorted(rows) != list(range(count)) or len(lengths) != 1:
        detail = f"{len(rows)} vectors of {len(lengths)} lengths for {count} texts"
        return Completion(pb.LLM_CALL_OUTCOME_UNPARSED, detail=detail, tokens=tokens)
    with np.errstate(over="ignore"):
        vectors = np.array([rows[i] for i in range(count)], np.float64).astype(np.float32)
    if not np.all(np.isfinite(vectors)) or not np.all(np.any(vectors != 0, axis=1)):
        detail = "a vector is all 0 or not finite"
        return Completion(pb.LLM_CALL_OUTCOME_UNPARSED, detail=detail, tokens=tokens)
    return Completion(pb.LLM_CALL_OUTCOME_OK, _packed(vectors), tokens=tokens)


def _packed(vectors: Vectors) -> str:
    data = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
    return json.dumps({"shape": list(vectors.shape), "float32": data})


def _unpacked(text: str) -> Vectors:
    stored = json.loads(text)
    flat = np.frombuffer(base64.b64decode(stored["float32"]), "<f4")
    return flat.reshape(stored["shape"]).astype(np.float32)


def _provider_error(record: CallRecord) -> SaexplainError:
    if record.failure == "rate_limited":
        return ResourceExhausted(
            record.detail, "RATE_LIMITED", retry_after_seconds=record.retry_after_seconds
        )
    if record.failure == "unavailable":
        return Unavailable(
            record.detail, "LLM_UNAVAILABLE", retry_after_seconds=record.retry_after_seconds
        )
    return FailedPrecondition(record.detail, "LLM_REQUEST_REJECTED")
