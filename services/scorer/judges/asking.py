"""What one task of a language model's judge is made of, and how its replies become
predictions.

A reply is read item by item: what it leaves out, answers twice and differently, or answers
with something that does not exist has no entry, and whoever asked makes it FAILED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.scorer.v1.scorer_pb2 import (
    PREDICTION_STATUS_FAILED,
    PREDICTION_STATUS_OK,
    JudgeItem,
    Prediction,
)
from services.common.llm.calls import ChatMessage
from services.common.llm.prompts import PromptSet
from services.common.llm.session import Answer, Question
from services.scorer.judges.rendering import read_explanation

T = TypeVar("T", bound=BaseModel)

PROMPTS = PromptSet(__package__)


@dataclass(frozen=True)
class Task(Generic[T]):
    """A task of the judge.

    Attributes:
        schema_name: of the reply.
        reply_type: what a reply has to be.
        template: of the prompt; gets `explanation` and `items`.
        items_per_question: items asked in one call: few enough for the default limit of a
            reply's tokens.
        shown: an item, numbered from 1, as values of the template.
        read: predictions of the items that the answer can be used for, by id.
        top_logprob_count: alternatives wanted per token of the reply.
    """

    schema_name: str
    reply_type: type[T]
    template: str
    items_per_question: int
    shown: Callable[[JudgeItem], Mapping[str, Any]]
    read: Callable[[Sequence[JudgeItem], Answer[T]], Mapping[str, Prediction]]
    top_logprob_count: int = 0

    def question(self, explanation: Explanation, batch: Sequence[JudgeItem]) -> Question[T]:
        """The prompt for a batch."""
        items = [{"number": n, **self.shown(item)} for n, item in enumerate(batch, 1)]
        prompt = PROMPTS.render(
            self.template, explanation=read_explanation(explanation), items=items
        )
        return Question(
            self.schema_name,
            self.reply_type,
            (ChatMessage("user", prompt),),
            PROMPTS.fingerprint,
            self.top_logprob_count,
        )

    def predictions(self, batch: Sequence[JudgeItem], answer: Answer[T]) -> dict[str, Prediction]:
        """One per item of the batch; FAILED for those without a usable answer."""
        found = self.read(batch, answer) if answer.ok else {}
        return {item.id: found.get(item.id, failed(item)) for item in batch}


def answered(item: JudgeItem, **values: Any) -> Prediction:
    """The prediction of an item."""
    return Prediction(item_id=item.id, status=PREDICTION_STATUS_OK, **values)


def failed(item: JudgeItem) -> Prediction:
    """No prediction of an item: neither wrong nor zero."""
    return Prediction(item_id=item.id, status=PREDICTION_STATUS_FAILED)
