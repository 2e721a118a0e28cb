"""The provider's own words: the parts of a chat completion that we read.

Only here and in `client` are they spoken. Fields that an endpoint leaves out are
absent, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from services.common.llm.calls import TokenAlternatives


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")


class WireMessage(_Wire):
    """What the model said."""

    content: str | None = None
    refusal: str | None = None


class WireChoice(_Wire):
    """One of the answers; we ask for one."""

    message: WireMessage
    finish_reason: str | None = None
    logprobs: object = None


class WireTopLogprob(_Wire):
    """What might have stood in a token's place."""

    token: str
    logprob: FiniteFloat


class WireTokenLogprob(_Wire):
    """A token of the reply."""

    token: str
    top_logprobs: list[WireTopLogprob]


class WireLogprobs(_Wire):
    """Probabilities of the reply's tokens."""

    content: list[WireTokenLogprob]


class WirePromptDetails(_Wire):
    """Kinds of prompt tokens."""

    cached_tokens: int | None = None


class WireCompletionDetails(_Wire):
    """Kinds of reply tokens."""

    reasoning_tokens: int | None = None


class WireUsage(_Wire):
    """Token counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: WirePromptDetails | None = None
    completion_tokens_details: WireCompletionDetails | None = None


class WireCompletion(_Wire):
    """A chat completion."""

    choices: list[WireChoice]
    usage: WireUsage | None = None


class WireError(_Wire):
    """An error as most endpoints write it."""

    message: str = ""
    param: str | None = None
    code: str | int | None = None


def read_error(body: object) -> WireError:
    """The error in a body of any shape. Endpoints that follow other habits, such as
    FastAPI's `detail`, have it turned into text."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping) and isinstance(inner.get("message"), str):
            param, code = inner.get("param"), inner.get("code")
            return WireError(
                message=inner["message"],
                param=param if isinstance(param, str) else None,
                code=code if isinstance(code, str | int) else None,
            )
    return WireError(message=str(body)[:500] if body is not None else "")


def read_alternatives(logprobs: object) -> tuple[TokenAlternatives, ...] | None:
    """The alternatives of every token; None where there are none, or in another shape
    than OpenAI's: probabilities are worth having, not worth losing a reply for."""
    try:
        content = WireLogprobs.model_validate(logprobs).content
    except ValidationError:
        return None
    return tuple(
        TokenAlternatives(token.token, tuple((t.token, t.logprob) for t in token.top_logprobs))
        for token in content
    )


def retry_after_seconds(
    headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """The delay that a provider asks for, >= 0: `Retry-After` as seconds or as an HTTP
    date, or `retry-after-ms`. None where it asks for none that can be read."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
