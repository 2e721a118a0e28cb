"""Asking a language model, as explainers and scorers do it.

    model = open_language_model(settings)            # once per process; None: not set up
    session = model.session(request.scope)           # once per step
    answer = await session.ask(question, options)
    answer.value()                                   # the validated reply, or Aborted
    session.usage()                                  # for the response

Errors of the provider are raised, because whoever called may repeat the step; replies
that cannot be used are answers without a value, because repeating buys them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.common.v1 import usage_pb2 as pb
from services.common.database import create_engine
from services.common.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    SaexplainError,
    Unavailable,
)
from services.common.llm.calls import (
    CallFacts,
    CallKey,
    CallRecord,
    ChatMessage,
    Completion,
    CompletionRequest,
    TokenAlternatives,
    TokenCounts,
)
from services.common.llm.client import ChatClient
from services.common.llm.dialect import default_output_token_count
from services.common.llm.journal import CallJournal
from services.common.llm.limits import Limiter
from services.common.llm.prices import PriceList, load_prices
from services.common.llm.replies import instruction, parse_reply, wire_schema
from services.common.llm.settings import LlmSettings
from services.common.llm.usage import to_usage

MAX_PROMPT_BYTES = 2**20

_QUOTED_CHARACTERS = 6000
_MOST_REPHRASINGS = 8

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Question(Generic[T]):
    """A prompt and the shape of its reply.

    Attributes:
        name: of the reply's schema, such as `propose_hypotheses`.
        reply_type: what a reply has to be.
        messages: the prompt.
        prompt_fingerprint: SHA-256 (hex) of the templates it was made from.
        top_logprob_count: alternatives wanted per token of the reply, in [0, 20].
    """

    name: str
    reply_type: type[T]
    messages: tuple[ChatMessage, ...]
    prompt_fingerprint: str
    top_logprob_count: int = 0


class Answer(Generic[T]):
    """What came of a question.

    Attributes:
        outcome: OK, UNPARSED, REFUSED, TRUNCATED, FILTERED or EMPTY.
        detail: what was wrong with the reply; empty for OK.
        alternatives: one per token of the reply's text, for questions that want them;
            None where the endpoint gives none.
    """

    def __init__(
        self,
        outcome: pb.LlmCallOutcome.ValueType,
        value: T | None,
        detail: str,
        usage: pb.LlmUsage,
        alternatives: tuple[TokenAlternatives, ...] | None = None,
    ) -> None:
        self.outcome = outcome
        self.detail = detail
        self.alternatives = alternatives
        self._value = value
        self._usage = usage

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self._value is not None

    def value(self) -> T:
        """The validated reply.

        Raises:
            Aborted: LLM_REPLY_UNUSABLE, with the outcome and what was paid.
        """
        if self._value is None:
            name = pb.LlmCallOutcome.Name(self.outcome).removeprefix("LLM_CALL_OUTCOME_")
            raise Aborted(
                f"the language model's reply is {name}: {self.detail}",
                "LLM_REPLY_UNUSABLE",
                metadata={
                    "outcome": name,
                    "prompt_tokens": str(self._usage.prompt_token_count),
                    "completion_tokens": str(self._usage.completion_token_count),
                },
            )
        return self._value


class LanguageModel:
    """An endpoint, the journal in front of it, and its prices."""

    def __init__(
        self,
        client: ChatClient,
        journal: CallJournal,
        prices: PriceList,
        engine: AsyncEngine | None = None,
    ) -> None:
        self.client = client
        self.journal = journal
        self.prices = prices
        self._engine = engine

    def session(self, scope: pb.JournalScope) -> LlmSession:
        """Questions of one step."""
        return LlmSession(self, scope)

    async def aclose(self, drain_seconds: float = 20.0) -> None:
        """Waits for calls in flight, but not for long, then closes the connections."""
        await self.journal.drain(drain_seconds)
        await self.client.aclose()
        if self._engine is not None:
            await self._engine.dispose()


def open_language_model(settings: LlmSettings) -> LanguageModel | None:
    """The language model of the settings; None where provider or journal is missing.

    Raises:
        InvalidArgument: the database URL is none.
        OSError, ValueError: the price list cannot be read.
    """
    if not settings.configured or settings.database_url is None:
        return None
    client = ChatClient(
        settings.api_key.get_secret_value() if settings.api_key else None,
        settings.base_url,
        request_timeout_seconds=settings.request_timeout_seconds,
        max_concurrent_calls=settings.max_concurrent_calls,
    )
    engine = create_engine(settings.database_url.get_secret_value())
    journal = CallJournal(
        engine, lease_seconds=settings.lease_seconds, limiter=Limiter(settings.rate_policy)
    )
    return LanguageModel(client, journal, load_prices(settings.prices_file), engine)


def require_language_model(model: LanguageModel | None) -> LanguageModel:
    """The model, or FailedPrecondition LLM_NOT_CONFIGURED."""
    if model is None:
        raise FailedPrecondition(
            "no language model here: set OPENAI_API_KEY or OPENAI_BASE_URL, and "
            "SAEXPLAIN_DATABASE_URL for the journal of its calls",
            "LLM_NOT_CONFIGURED",
        )
    return model


class LlmSession:
    """The questions of one step, and what they cost. Questions may run concurrently."""

    def __init__(self, model: LanguageModel, scope: pb.JournalScope) -> None:
        self._model = model
        self._scope = scope
        self._records: list[CallRecord] = []

    def usage(self) -> pb.LlmUsage:
        """All requests of this step so far, failed and lost ones included."""
        return to_usage(self._records)

    async def ask(self, question: Question[T], options: pb.LlmOptions) -> Answer[T]:
        """Asks, through the journal. A reply that breaks its schema is shown to the
        model once, with what is wrong; that is a call of its own.

        Raises:
            ResourceExhausted: RATE_LIMITED (with the provider's delay), BUDGET_EXHAUSTED.
            Unavailable: LLM_UNAVAILABLE, or BACKEND_UNAVAILABLE for the database.
            FailedPrecondition: LLM_REQUEST_REJECTED.
            Cancelled: a user cancelled the run.
            InvalidArgument: the prompt is beyond 1 MiB.
        """
        request = _to_request(question, options)
        first, answer = await self._ask_once(question, request)
        if answer.outcome != pb.LLM_CALL_OUTCOME_UNPARSED:
            return answer
        repair = _repair(request, first.text, answer.detail)
        return (await self._ask_once(question, repair))[1]

    async def _ask_once(
        self, question: Question[T], request: CompletionRequest
    ) -> tuple[CallRecord, Answer[T]]:
        record = await self._journalled(question, request)
        outcome, value, detail = record.outcome, None, record.detail
        if outcome == pb.LLM_CALL_OUTCOME_UNPARSED and not record.reused:
            self._model.client.note_broken_schema(request.model)
        if outcome == pb.LLM_CALL_OUTCOME_OK:
            value = parse_reply(record.text, question.reply_type).value
        return record, Answer(outcome, value, detail, self.usage(), record.alternatives)

    async def _journalled(self, question: Question[T], request: CompletionRequest) -> CallRecord:
        """The stored reply to a request, bought if need be."""
        scope, client = self._scope, self._model.client
        key = CallKey(scope.owner, scope.step, scope.round, scope.ordinal, request.digest())
        price = self._model.prices.find(client.host, request.model)
        facts = self._facts(question, request)

        async def send() -> Completion:
            return _validated(await client.complete(request), question.reply_type)

        for _ in range(_MOST_REPHRASINGS):
            records = await self._model.journal.call(key, facts, send, price)
            known = {record.number for record in records}
            self._records = [r for r in self._records if r.number not in known] + records
            if records[-1].failure != "dialect":
                break
        if records[-1].failure is not None:
            raise _provider_error(records[-1])
        return records[-1]

    def _facts(self, question: Question[T], request: CompletionRequest) -> CallFacts:
        worst = request.worst_case_token_count()
        price = self._model.prices.find(self._model.client.host, request.model)
        cost: Decimal | None = None
        if price is not None:
            output = request.max_output_token_count
            cost = price.cost(TokenCounts(prompt=worst - output, completion=output))
        return CallFacts(
            model=request.model,
            schema_name=question.name,
            prompt_fingerprint=question.prompt_fingerprint,
            reserved_token_count=worst,
            reserved_cost=cost,
            currency_code=self._model.prices.currency_code if cost is not None else "",
            endpoint=self._model.client.endpoint,
        )


def _to_request(question: Question[T], options: pb.LlmOptions) -> CompletionRequest:
    size = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in question.messages)
    if size > MAX_PROMPT_BYTES:
        raise InvalidArgument(
            f"the prompt would have {size} bytes, at most {MAX_PROMPT_BYTES} are sent",
            "evidence",
            "TEXT_TOO_LONG",
        )
    return CompletionRequest(
        model=options.model,
        messages=question.messages,
        schema_name=question.name,
        schema=wire_schema(question.reply_type),
        temperature=options.temperature if options.HasField("temperature") else None,
        seed=options.seed if options.HasField("seed") else None,
        max_output_token_count=(
            options.max_output_token_count
            if options.HasField("max_output_token_count")
            else default_output_token_count(options.model)
        ),
        top_logprob_count=question.top_logprob_count,
    )


def _validated(reply: Completion, reply_type: type[BaseModel]) -> Completion:
    """An OK reply that breaks its schema is UNPARSED, and stored as such."""
    if reply.outcome != pb.LLM_CALL_OUTCOME_OK:
        return reply
    parsed = parse_reply(reply.text, reply_type)
    if parsed.value is not None:
        return reply
    return replace(reply, outcome=pb.LLM_CALL_OUTCOME_UNPARSED, detail=parsed.problem)


def _repair(request: CompletionRequest, reply: str, problem: str) -> CompletionRequest:
    """The request again, with the reply and what is wrong with it."""
    complaint = f"That reply cannot be used: {problem}\n\n"
    return replace(
        request,
        messages=(
            *request.messages,
            ChatMessage("assistant", reply[:_QUOTED_CHARACTERS]),
            ChatMessage("user", complaint + instruction(request.schema_name, request.schema)),
        ),
    )


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
