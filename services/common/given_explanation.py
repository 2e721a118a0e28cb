"""How long an explanation may be, and one from elsewhere brought within that."""

from __future__ import annotations

from saexplain.common.v1.explanation_pb2 import (
    EXPLANATION_STATUS_EXPLAINED,
    Explanation,
    ExplanationPart,
)
from services.common.pattern import validate

MAX_LABEL_LENGTH = 100
"""Longest label in characters."""

MAX_DESCRIPTION_LENGTH = 4000
"""Longest description in characters."""

MAX_PARTS = 5
"""Most parts of an explanation."""


def accepted(given: Explanation, field: str) -> Explanation:
    """A given explanation as ours are: a missing label is the beginning of the
    description, a missing description is the label; its pattern, and no citation, since
    those were never checked.

    Args:
        field: where it stands in a request.

    Raises:
        InvalidArgument: its pattern is invalid.
    """
    label, description = " ".join(given.label.split()), given.description.strip()
    explanation = Explanation(
        status=EXPLANATION_STATUS_EXPLAINED,
        status_detail="Imported.",
        label=shortened(label or " ".join(description.split()), MAX_LABEL_LENGTH),
        description=shortened(description or label, MAX_DESCRIPTION_LENGTH),
        parts=[ExplanationPart(statement=part.statement) for part in given.parts[:MAX_PARTS]],
    )
    if given.HasField("pattern"):
        validate(given.pattern, f"{field}.pattern")
        explanation.pattern.CopyFrom(given.pattern)
    return explanation


def shortened(text: str, limit: int) -> str:
    """Text cut at a word so that it has at most `limit` characters, with an ellipsis."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head) + "…"
