"""One request to an OpenAI-compatible endpoint, and everything that can come back.

The OpenAI client's own retries are off: whoever calls owns them. A request ends in a
`Completion`, whatever happened; nothing of the provider's leaves this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import openai
import structlog
from pydantic import ValidationError

from saexplain.common.v1 import usage_pb2 as pb
from services.common.llm.calls import Completion, CompletionRequest, TokenCounts
from services.common.llm.dialect import (
    Dialect,
    ReplyFormat,
    after_broken_schema,
    after_refusal,
    initial_dialect,
)
from services.common.llm.replies import instruction
from services.common.llm.wire import (
    WireCompletion,
    WireUsage,
    read_alternatives,
    read_error,
    retry_after_seconds,
)

_log = structlog.get_logger(__name__)

_RETRYABLE = frozenset({408, 409, 425, 429})
_NO_KEY = "none"


class ChatClient:
    """Asks one endpoint. Knows, per model, which dialect it has been found to speak.

    Args:
        api_key: None for endpoints that want none.
        base_url: with its `/v1`; None for OpenAI's own.
        request_timeout_seconds: after which a request counts as failed.
        max_concurrent_calls: requests in flight; more wait.
        now: the clock that dates in Retry-After are compared with.
    """

    def __init__(
        self,
        api_key: str | None,
        base_url: str | None,
        *,
        request_timeout_seconds: float = 300.0,
        max_concurrent_calls: int = 16,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = openai.AsyncOpenAI(
            api_key=api_key or _NO_KEY,
            base_url=base_url,
            max_retries=0,
            timeout=openai.Timeout(request_timeout_seconds, connect=10.0),
        )
        self._timeout_seconds = request_timeout_seconds
        self._slots = asyncio.Semaphore(max_concurrent_calls)
        self._dialects: dict[str, Dialect] = {}
        self._now = now

    @property
    def host(self) -> str:
        """Host of the endpoint: whose prices apply."""
        return self._client.base_url.host

    @property
    def endpoint(self) -> str:
        """Host and port of the endpoint: whose limits per minute apply."""
        return self._client.base_url.netloc.decode("ascii")

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def dialect(self, model: str) -> Dialect:
        """How this model is asked at present."""
        return self._dialects.get(model) or initial_dialect(model)

    def note_broken_schema(self, model: str) -> None:
        """Tells the client that a reply broke the schema it was asked to keep to."""
        self._dialects[model] = after_broken_schema(self.dialect(model))

    async def complete(self, request: CompletionRequest) -> Completion:
        """Sends a request once. Never raises for what a provider does.

        The outcome is never UNPARSED: whether a text keeps to its schema is not looked
        at here.
        """
        dialect = self.dialect(request.model)
        async with self._slots:
            try:
                # The library's own timeout starts anew with every byte that arrives.
                async with asyncio.timeout(self._timeout_seconds):
                    raw = await self._client.chat.completions.with_raw_response.create(
                        **_parameters(request, dialect)
                    )
                    body = raw.http_response.content
            except openai.APIStatusError as error:
                return self._refused(request, dialect, error)
            except (openai.APIError, TimeoutError) as error:
                return _unreachable(error)
        try:
            return _read(WireCompletion.model_validate_json(body))
        except ValidationError:
            return Completion(
                pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
                detail="the answer is no chat completion",
                failure="unavailable",
                http_status=raw.status_code,
                maybe_charged=True,
            )

    def _refused(
        self, request: CompletionRequest, dialect: Dialect, error: openai.APIStatusError
    ) -> Completion:
        status = error.status_code
        told = read_error(error.body)
        detail = f"HTTP {status}: {told.message[:300]}"
        if status in (400, 422, 501):
            if told.code == "content_filter":
                return Completion(pb.LLM_CALL_OUTCOME_FILTERED, detail=detail, http_status=status)
            next_dialect = after_refusal(dialect, told.param or "", told.message)
            if next_dialect is not None:
                self._dialects[request.model] = next_dialect
                _log.info("llm_dialect_changed", model=request.model, param=told.param)
                return _provider_error("dialect", detail, status)
        if status == 429 and told.code == "insufficient_quota":
            return _provider_error("rejected", detail, status)
        if status in _RETRYABLE or status >= 500:
            kind = "rate_limited" if status == 429 else "unavailable"
            delay = retry_after_seconds(error.response.headers, self._now)
            return _provider_error(kind, detail, status, delay)
        return _provider_error("rejected", detail, status)


def _parameters(request: CompletionRequest, dialect: Dialect) -> dict[str, Any]:
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    if dialect.schema_in_text:
        spelled = instruction(request.schema_name, request.schema)
        messages[-1] = {**messages[-1], "content": f"{messages[-1]['content']}\n\n{spelled}"}
    parameters: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        dialect.limit_parameter: request.max_output_token_count,
    }
    if dialect.reply_format is ReplyFormat.JSON_SCHEMA:
        parameters["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": request.schema_name,
                "schema": request.schema,
                "strict": True,
            },
        }
    elif dialect.reply_format is ReplyFormat.JSON_OBJECT:
        parameters["response_format"] = {"type": "json_object"}
    if dialect.temperature and request.temperature is not None:
        parameters["temperature"] = request.temperature
    if dialect.seed and request.seed is not None:
        parameters["seed"] = request.seed
    if dialect.logprobs and request.top_logprob_count:
        parameters["logprobs"] = True
        parameters["top_logprobs"] = request.top_logprob_count
    return parameters


def _provider_error(
    kind: Any, detail: str, status: int | None, delay: float | None = None
) -> Completion:
    return Completion(
        pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
        detail=detail,
        failure=kind,
        http_status=status,
        retry_after_seconds=delay,
    )


def _unreachable(error: Exception) -> Completion:
    cause = error.__cause__ or error
    # A connection that was never made cannot have been charged; any other may have been.
    # By name: the library may stand on one of two generations of its HTTP client.
    unsent = type(cause).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
    return Completion(
        pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
        detail=f"no answer: {type(cause).__name__}",
        failure="unavailable",
        maybe_charged=not unsent,
    )


def _read(completion: WireCompletion) -> Completion:
    tokens = _counts(completion.usage)
    if not completion.choices:
        return Completion(pb.LLM_CALL_OUTCOME_EMPTY, detail="no choice", tokens=tokens)
    choice = completion.choices[0]
    text = choice.message.content or ""
    if choice.finish_reason == "content_filter":
        return Completion(
            pb.LLM_CALL_OUTCOME_FILTERED, detail="withheld by a content filter", tokens=tokens
        )
    if choice.message.refusal:
        detail = choice.message.refusal[:300]
        return Completion(pb.LLM_CALL_OUTCOME_REFUSED, detail=detail, tokens=tokens)
    if choice.finish_reason == "length":
        detail = "cut at the limit of tokens"
        return Completion(pb.LLM_CALL_OUTCOME_TRUNCATED, text, detail, tokens)
    if not text.strip():
        return Completion(pb.LLM_CALL_OUTCOME_EMPTY, detail="no text", tokens=tokens)
    return Completion(
        pb.LLM_CALL_OUTCOME_OK,
        text,
        tokens=tokens,
        alternatives=read_alternatives(choice.logprobs),
    )


def _counts(usage: WireUsage | None) -> TokenCounts:
    if usage is None:
        return TokenCounts()
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return TokenCounts(
        prompt=max(0, usage.prompt_tokens or 0),
        cached_prompt=max(0, (prompt.cached_tokens if prompt else None) or 0),
        completion=max(0, usage.completion_tokens or 0),
        reasoning=max(0, (completion.reasoning_tokens if completion else None) or 0),
    )
