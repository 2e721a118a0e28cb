"""PICK, PICK_BLIND and SELECT: which passages of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saexplain.scorer.v1.scorer_pb2 import JudgeItem, Prediction
from services.common.llm.replies import ReplyModel
from services.common.llm.session import Answer
from services.scorer.judges.asking import Task, answered
from services.scorer.judges.rendering import by_number, passage


class Picked(ReplyModel):
    """The odd passage of one group."""

    group: int
    passage: int


class PickReply(ReplyModel):
    """Reply to `pick` and `pick_blind`."""

    groups: list[Picked]


class Selected(ReplyModel):
    """The chosen passages of one group."""

    group: int
    passages: list[int]


class SelectReply(ReplyModel):
    """Reply to `select`."""

    groups: list[Selected]


def _shown(item: JudgeItem) -> dict[str, list[str]]:
    return {"passages": [passage(p.tokens, p.highlights) for p in item.passages]}


def _picked(batch: Sequence[JudgeItem], answer: Answer[PickReply]) -> Mapping[str, Prediction]:
    chosen = ((a.group, [a.passage]) for a in answer.value().groups)
    return _of_groups(batch, by_number(chosen, len(batch)))


def _selected(batch: Sequence[JudgeItem], answer: Answer[SelectReply]) -> Mapping[str, Prediction]:
    chosen = ((a.group, sorted(set(a.passages))) for a in answer.value().groups)
    return _of_groups(batch, by_number(chosen, len(batch)))


def _of_groups(
    batch: Sequence[JudgeItem], chosen: Mapping[int, list[int]]
) -> Mapping[str, Prediction]:
    """Groups whose passages, numbered from 1, all exist."""
    return {
        batch[n - 1].id: answered(batch[n - 1], chosen=[p - 1 for p in passages])
        for n, passages in chosen.items()
        if all(1 <= p <= len(batch[n - 1].passages) for p in passages)
    }


PICK = Task("pick_uncovered", PickReply, "pick", 4, _shown, _picked)
PICK_BLIND = Task("pick_odd", PickReply, "pick_blind", 4, _shown, _picked)
SELECT = Task("select_active", SelectReply, "select", 2, _shown, _selected)
