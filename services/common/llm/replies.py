"""From a reply's text to a validated record, or to nothing.

A reply is used whole or not at all: a text that is no JSON, or JSON of another shape,
has no value, and no default stands in for one.
"""

from __future__ import annotations

import json
import re
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)

# Keywords that strict modes refuse or that only cost tokens; validated here anyway.
# Descriptions are our docstrings: what a reply should hold is said by the prompt.
_LEFT_OUT = frozenset({"title", "description", "default", "minLength", "maxLength"})


class ReplyModel(BaseModel):
    """Base of all replies: every field required, no other field allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


T = TypeVar("T", bound=BaseModel)


class Parsed(Generic[T]):
    """A validated reply, or why there is none. Exactly one of the two is set."""

    def __init__(self, value: T | None, problem: str) -> None:
        self.value = value
        self.problem = problem


def wire_schema(reply_type: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a reply as providers take it in strict mode."""
    schema: dict[str, Any] = _pruned(reply_type.model_json_schema())
    return schema


def _pruned(node: Any, *, is_properties: bool = False) -> Any:
    if isinstance(node, list):
        return [_pruned(item) for item in node]
    if not isinstance(node, dict):
        return node
    # Below `properties` and `$defs` keys are names, not keywords.
    return {
        key: _pruned(value, is_properties=key in ("properties", "$defs") and not is_properties)
        for key, value in node.items()
        if is_properties or key not in _LEFT_OUT
    }


def instruction(schema_name: str, schema: dict[str, Any]) -> str:
    """What a prompt says where the endpoint does not hold the model to a schema."""
    text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    order = "Reply with JSON only, no other text, that keeps to the"
    return f'{order} JSON schema "{schema_name}":\n{text}'


def parse_reply(text: str, reply_type: type[T]) -> Parsed[T]:
    """Validates a reply. One fenced block, or a leading `<think>` block, is looked
    through; anything else around the JSON makes the reply unusable."""
    candidate = _THOUGHT.sub("", text).strip()
    fenced = _FENCED.findall(candidate)
    if len(fenced) == 1 and not candidate.startswith("{"):
        candidate = fenced[0]
    try:
        return Parsed(reply_type.model_validate_json(candidate), "")
    except ValidationError as error:
        return Parsed(None, _problem(error))


def _problem(error: ValidationError) -> str:
    """The first few complaints, without the texts that caused them."""
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'reply'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False, include_context=False)
    ]
    return "; ".join(lines[:5])[:500]
