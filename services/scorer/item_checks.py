"""What an item must be before a judge sees it. Every problem names the field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_CLASSIFY,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS,
    JUDGE_TASK_EMBED,
    JUDGE_TASK_PICK,
    JUDGE_TASK_PICK_BLIND,
    JUDGE_TASK_PREDICT,
    JUDGE_TASK_RATE,
    JUDGE_TASK_SELECT,
    JUDGE_TASK_SIMULATE,
    JUDGE_TASK_VERIFY,
    JudgeItem,
    JudgePassage,
    JudgeTask,
)

MAX_PASSAGES = 64
MIN_PASSAGES = 2

MAX_TEXT_BYTES = 32_768
"""Longest text that is judged or embedded."""

Problem = tuple[str, str]
"""A field and what is wrong with it."""


class _Placed(Protocol):
    @property
    def left_context(self) -> TokenSpan: ...
    @property
    def context_position(self) -> int: ...


def item_problems(item: JudgeItem) -> Iterator[Problem]:
    """What keeps an item from being judged."""
    if not item.id:
        yield "id", "required"
    check = _CHECKS.get(item.task)
    if check is None:
        yield "task", "must be one of JudgeTask"
        return
    yield from check(item)
    if item.highlights and item.task != JUDGE_TASK_CLASSIFY_HIGHLIGHTS:
        yield "highlights", "only for CLASSIFY_HIGHLIGHTS"


def span_problems(tokens: TokenSpan) -> Iterator[Problem]:
    """What is wrong with a list of tokens."""
    if len(tokens.token_ids) != len(tokens.token_bytes):
        yield "token_bytes", "another number of them than of `token_ids`"


def position_problems(stretch: _Placed) -> Iterator[Problem]:
    """What is wrong with where a stretch stands: patterns ask for it."""
    if stretch.context_position < len(stretch.left_context.token_ids):
        yield "context_position", "less than the tokens of `left_context`"


def _tokens(item: JudgeItem | JudgePassage) -> Iterator[Problem]:
    if not item.tokens.token_ids:
        yield "tokens", "at least one token is needed"
    for name, span in (("tokens", item.tokens), ("left_context", item.left_context)):
        yield from ((f"{name}.{field}", why) for field, why in span_problems(span))
    if item.HasField("context_position"):
        yield from position_problems(item)
    yield from _highlights(item.highlights, len(item.tokens.token_ids))


def _highlights(places: Sequence[int], token_count: int) -> Iterator[Problem]:
    if any(not 0 <= place < token_count for place in places):
        yield "highlights", "not an index of `tokens`"
    elif any(a >= b for a, b in pairwise(places)):
        yield "highlights", "must rise"


def _highlighted(item: JudgeItem) -> Iterator[Problem]:
    yield from _tokens(item)
    if not item.highlights:
        yield "highlights", "at least one is needed"


def _passages(item: JudgeItem) -> Iterator[Problem]:
    if not MIN_PASSAGES <= len(item.passages) <= MAX_PASSAGES:
        yield "passages", f"must be {MIN_PASSAGES} to {MAX_PASSAGES}"
    for place, passage in enumerate(item.passages[:MAX_PASSAGES]):
        yield from ((f"passages[{place}].{field}", why) for field, why in _tokens(passage))


def _text(item: JudgeItem) -> Iterator[Problem]:
    if not item.text:
        yield "text", "required"
    elif len(item.text.encode()) > MAX_TEXT_BYTES:
        yield "text", f"longer than {MAX_TEXT_BYTES} bytes"


_CHECKS: Mapping[JudgeTask.ValueType, Callable[[JudgeItem], Iterator[Problem]]] = {
    JUDGE_TASK_PREDICT: _tokens,
    JUDGE_TASK_VERIFY: _text,
    JUDGE_TASK_CLASSIFY: _tokens,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS: _highlighted,
    JUDGE_TASK_SIMULATE: _tokens,
    JUDGE_TASK_PICK: _passages,
    JUDGE_TASK_PICK_BLIND: _passages,
    JUDGE_TASK_SELECT: _passages,
    JUDGE_TASK_RATE: _tokens,
    JUDGE_TASK_EMBED: _text,
}
