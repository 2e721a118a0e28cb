"""How an endpoint wants to be asked, found out from what it refuses.

OpenAI-compatible servers differ in which `response_format` they take, what they call
the limit of tokens, and which sampling parameters they bear. The most demanding way is
tried first; a refusal that blames a parameter steps down once. Pure logic, no I/O.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from enum import Enum

DEFAULT_MAX_OUTPUT_TOKENS = 4096
REASONING_TOKENS = 16_384
"""What a reasoning model may think beside its reply: its limit counts both."""

_REASONING = re.compile(r"(^|/)(o[1-9]|gpt-5|gpt-oss)([.-]|$)")


class ReplyFormat(Enum):
    """Ways of asking for JSON, strictest first."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    INSTRUCTION = "instruction"


@dataclass(frozen=True)
class Dialect:
    """How to phrase a request.

    Attributes:
        reply_format: what goes into `response_format`.
        schema_in_text: whether the prompt spells the schema out.
        limit_parameter: what the limit of reply tokens is called.
        temperature: whether the model bears a temperature.
        seed: whether the endpoint bears a seed.
        logprobs: whether it gives probabilities of the reply's tokens.
    """

    reply_format: ReplyFormat = ReplyFormat.JSON_SCHEMA
    schema_in_text: bool = False
    limit_parameter: str = "max_completion_tokens"
    temperature: bool = True
    seed: bool = True
    logprobs: bool = True


def is_reasoning_model(model: str) -> bool:
    """Whether the name is one of a model that thinks before it answers."""
    return _REASONING.search(model) is not None


def default_output_token_count(model: str) -> int:
    """Limit of a reply's tokens, in which reasoning counts, where a plan names none."""
    return DEFAULT_MAX_OUTPUT_TOKENS + (REASONING_TOKENS if is_reasoning_model(model) else 0)


def initial_dialect(model: str) -> Dialect:
    """What to try first: reasoning models refuse a temperature and probabilities."""
    plain = not is_reasoning_model(model)
    return Dialect(temperature=plain, logprobs=plain)


def after_refusal(dialect: Dialect, param: str, message: str) -> Dialect | None:
    """The dialect to try after a 400 or 422 that names `param` or blames one in
    `message`; None if the refusal is about something else."""
    blamed = param or message
    # Other than `param`, a message may name two: "use max_tokens instead of ...".
    if "response_format" in blamed or "json_schema" in blamed or "json_object" in blamed:
        return _plainer(dialect)
    if dialect.limit_parameter in blamed:
        other = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
        return dataclasses.replace(dialect, limit_parameter=other[dialect.limit_parameter])
    if "temperature" in blamed and dialect.temperature:
        return dataclasses.replace(dialect, temperature=False)
    if "logprobs" in blamed and dialect.logprobs:
        return dataclasses.replace(dialect, logprobs=False)
    if re.search(r"\bseed\b", blamed) and dialect.seed:
        return dataclasses.replace(dialect, seed=False)
    return None


def after_broken_schema(dialect: Dialect) -> Dialect:
    """The dialect after a reply broke its schema: an endpoint that takes
    `response_format` may ignore it, so from now on the prompt says it as well."""
    return dataclasses.replace(dialect, schema_in_text=True)


def _plainer(dialect: Dialect) -> Dialect | None:
    if dialect.reply_format is ReplyFormat.INSTRUCTION:
        return None
    plainer = (
        ReplyFormat.JSON_OBJECT
        if dialect.reply_format is ReplyFormat.JSON_SCHEMA
        else ReplyFormat.INSTRUCTION
    )
    return dataclasses.replace(dialect, reply_format=plainer, schema_in_text=True)
