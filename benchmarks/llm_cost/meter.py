"""A language model that counts: prompts as they would be sent, replies by `Author`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from benchmarks.llm_cost.author import Author
from saexplain.common.v1 import usage_pb2 as pb
from services.common.llm.replies import parse_reply, wire_schema
from services.common.llm.session import Answer, Question

T = TypeVar("T", bound=BaseModel)


class Meter:
    """Stands where a `LanguageModel` and its sessions stand.

    Attributes:
        tokens: by schema, of prompts and replies together. The schema of a reply counts as
            a part of its prompt: endpoints without structured output get it spelled out.
        calls: by schema.
    """

    def __init__(self, count: Callable[[str], int], author: Author) -> None:
        self._count = count
        self._author = author
        self.tokens: Counter[str] = Counter()
        self.prompt_tokens: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def session(self, scope: pb.JournalScope) -> Any:
        """Itself: it has nothing that belongs to one step."""
        return self

    def usage(self) -> pb.LlmUsage:
        """None: tokens are in `tokens`."""
        return pb.LlmUsage()

    async def ask(self, question: Question[T], options: pb.LlmOptions) -> Answer[T]:
        """Counts and answers."""
        schema = json.dumps(wire_schema(question.reply_type), separators=(",", ":"))
        prompt = "\n".join(message.content for message in question.messages)
        reply = self._author.reply(question.name, prompt)
        text = json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
        parsed = parse_reply(text, question.reply_type)
        assert parsed.value is not None, parsed.problem
        asked = self._count(prompt) + self._count(schema)
        self.prompt_tokens[question.name] += asked
        self.tokens[question.name] += asked + self._count(text)
        self.calls[question.name] += 1
        return Answer(pb.LLM_CALL_OUTCOME_OK, parsed.value, "", pb.LlmUsage())
