"""The records that client, journal and session hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from saexplain.common.v1.usage_pb2 import LlmCallOutcome
from services.common.canonical import digest_of

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class ChatMessage:
    """One message of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True)
class TokenAlternatives:
    """A token of a reply with what might have stood in its place.

    Attributes:
        token: the text of the token.
        top: the likeliest tokens with their natural logarithms of probability, as the
            endpoint gave them; at most as many as were asked for.
    """

    token: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CompletionRequest:
    """What is asked, free of how an endpoint wants it phrased.

    Attributes:
        model: the provider's name of the model.
        messages: the prompt; at least one.
        schema_name: `[a-zA-Z0-9_-]{1,64}`.
        schema: JSON schema of the reply.
        temperature: None for the provider's default.
        seed: None for none.
        max_output_token_count: limit of the reply, reasoning included.
        top_logprob_count: alternatives wanted per token of the reply, in [0, 20].
    """

    model: str
    messages: tuple[ChatMessage, ...]
    schema_name: str
    schema: dict[str, Any] = field(hash=False)
    temperature: float | None
    seed: int | None
    max_output_token_count: int
    top_logprob_count: int = 0

    def digest(self) -> str:
        """SHA-256 (hex) over everything that is asked. The dialect is left out: what an
        endpoint has refused before must not make a stored reply unknown."""
        return digest_of(
            {
                "model": self.model,
                "messages": [[m.role, m.content] for m in self.messages],
                "schema_name": self.schema_name,
                "schema": self.schema,
                "temperature": self.temperature,
                "seed": self.seed,
                "max_output_token_count": self.max_output_token_count,
                "top_logprob_count": self.top_logprob_count,
            }
        )

    def worst_case_token_count(self) -> int:
        """Tokens to set aside. Tokenizers make 3 to 4 bytes of English into a token and
        no common script into less than 2, so half of the bytes bounds the prompt; the
        schema is counted twice, as a parameter and spelled out."""
        texts = [m.content for m in self.messages]
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        size += 2 * len(str(self.schema)) + 32 * len(texts)
        return size // 2 + self.max_output_token_count


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of one call as the provider counts them; 0 where it did not say."""

    prompt: int = 0
    cached_prompt: int = 0
    completion: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """What counts against a budget."""
        return self.prompt + self.completion


FailureKind = Literal["dialect", "rate_limited", "unavailable", "rejected"]


@dataclass(frozen=True)
class Completion:
    """How one request to a provider ended.

    Attributes:
        outcome: PROVIDER_ERROR where there is no reply, else what kind of reply.
        text: the reply's text; empty unless the outcome is OK, UNPARSED or TRUNCATED.
        detail: what was wrong, for people.
        tokens: what the provider counted.
        failure: for PROVIDER_ERROR: `dialect` if the same should be asked again in
            other words, `rate_limited` and `unavailable` if a repeat may work,
            `rejected` if it will not.
        maybe_charged: the request may have been served though no reply arrived.
        alternatives: one per token of `text`; None where the endpoint gives none, or
            none were asked for.
    """

    outcome: LlmCallOutcome.ValueType
    text: str = ""
    detail: str = ""
    tokens: TokenCounts = TokenCounts()
    failure: FailureKind | None = None
    http_status: int | None = None
    retry_after_seconds: float | None = None
    maybe_charged: bool = False
    alternatives: tuple[TokenAlternatives, ...] | None = None


@dataclass(frozen=True)
class CallKey:
    """Which call of which step of which run, and what is asked."""

    owner: str
    step: str
    round: int
    ordinal: int
    request_hash: str

    def digest(self) -> str:
        """SHA-256 (hex) of the key."""
        return digest_of([self.owner, self.step, self.round, self.ordinal, self.request_hash])


@dataclass(frozen=True)
class CallFacts:
    """What a journal row says about a call besides its key.

    Attributes:
        reserved_token_count: worst case, set aside while the call is in flight.
        reserved_cost: worst case in `currency_code`; None where no price is known.
        endpoint: host and port of the provider: whose limits per minute apply.
    """

    model: str
    schema_name: str
    prompt_fingerprint: str
    reserved_token_count: int
    reserved_cost: Decimal | None
    currency_code: str
    endpoint: str = ""


@dataclass(frozen=True)
class CallRecord:
    """One row of the journal: one request to a provider.

    Attributes:
        number: rises with the time of sending.
        state: STORED, FAILED or LOST; IN_FLIGHT only in the journal of a run.
        failure: as in `Completion`.
        reused: the reply was there before it was asked for.
        alternatives: as in `Completion`.
    """

    number: int
    attempt: int
    state: str
    step: str
    model: str
    prompt_fingerprint: str
    outcome: LlmCallOutcome.ValueType
    text: str
    detail: str
    tokens: TokenCounts
    cost: Decimal | None
    currency_code: str
    failure: FailureKind | None = None
    retry_after_seconds: float | None = None
    reused: bool = False
    alternatives: tuple[TokenAlternatives, ...] | None = None
