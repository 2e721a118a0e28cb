"""What calls to language models cost, by whatever the asker wants it split by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.llm.tables import (
    STATE_FAILED,
    STATE_IN_FLIGHT,
    STATE_LOST,
    STATE_STORED,
    llm_budgets,
    llm_calls,
)
from services.orchestrator.store.session import transaction
from services.orchestrator.store.tables import explanations

Dimension = Literal["project", "campaign", "explanation", "feature", "step", "model"]

_DIMENSIONS: dict[Dimension, ColumnElement[str | None]] = {
    "project": func.split_part(llm_calls.c.owner, "/", 2),
    "campaign": func.split_part(llm_budgets.c.campaign, "/", 4),
    "explanation": func.split_part(llm_calls.c.owner, "/", 4),
    "feature": explanations.c.feature,
    "step": llm_calls.c.step,
    "model": llm_calls.c.model,
}


@dataclass(frozen=True)
class Spending:
    """What the calls of one group cost.

    Attributes:
        group: names in the order asked for; empty where a call has none, such as a
            campaign.
        request_count: requests sent, those in flight included.
        stored_count, failed_count, lost_count, in_flight_count: of them.
        token counts: as the provider counted them, of stored replies and failures.
        lost_token_count: worst case of lost calls: at most so much was charged for them.
        costs: by currency, of replies whose price is known.
        unpriced_count: stored replies whose price is not.
    """

    group: tuple[str, ...]
    request_count: int
    stored_count: int
    failed_count: int
    lost_count: int
    in_flight_count: int
    prompt_token_count: int
    cached_prompt_token_count: int
    completion_token_count: int
    reasoning_token_count: int
    lost_token_count: int
    costs: dict[str, Decimal]
    unpriced_count: int


class SpendingStore:
    """Queries over the journal."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def by(
        self, dimensions: Sequence[Dimension], *, project: str, campaign: str | None = None
    ) -> list[Spending]:
        """What a project's calls cost, split by at least no dimension.

        Args:
            project: its id.
            campaign: only of this one, by its id; None for all.

        Returns:
            Groups that made a call, by name.
        """
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_query(dimensions, project, campaign))
            parts = [_spending(dimensions, row) for row in rows.mappings()]
        found: dict[tuple[str, ...], Spending] = {}
        for part in parts:
            known = found.get(part.group)
            found[part.group] = part if known is None else _sum(known, part)
        return [found[names] for names in sorted(found)]


def _in(state: str) -> ColumnElement[int]:
    return func.count().filter(llm_calls.c.state == state)


_COUNTS: dict[str, ColumnElement[int]] = {
    "request_count": func.count(),
    "stored_count": _in(STATE_STORED),
    "failed_count": _in(STATE_FAILED),
    "lost_count": _in(STATE_LOST),
    "in_flight_count": _in(STATE_IN_FLIGHT),
    "prompt_token_count": func.sum(llm_calls.c.prompt_token_count),
    "cached_prompt_token_count": func.sum(llm_calls.c.cached_prompt_token_count),
    "completion_token_count": func.sum(llm_calls.c.completion_token_count),
    "reasoning_token_count": func.sum(llm_calls.c.reasoning_token_count),
    "lost_token_count": func.coalesce(
        func.sum(llm_calls.c.reserved_token_count).filter(llm_calls.c.state == STATE_LOST), 0
    ),
    "unpriced_count": func.count().filter(
        llm_calls.c.state == STATE_STORED, llm_calls.c.cost.is_(None)
    ),
}


def _query(dimensions: Sequence[Dimension], project: str, campaign: str | None) -> Select[Any]:
    groups: list[ColumnElement[Any]] = [_DIMENSIONS[name].label(name) for name in dimensions]
    query = (
        select(
            *groups,
            llm_calls.c.currency_code,
            func.sum(llm_calls.c.cost).label("cost"),
            *(count.label(name) for name, count in _COUNTS.items()),
        )
        .select_from(llm_calls)
        .outerjoin(llm_budgets, llm_budgets.c.owner == llm_calls.c.owner)
        .outerjoin(
            explanations,
            and_(
                explanations.c.project == _DIMENSIONS["project"],
                explanations.c.id == _DIMENSIONS["explanation"],
            ),
        )
        .where(_DIMENSIONS["project"] == project)
        .group_by(*(_DIMENSIONS[name] for name in dimensions), llm_calls.c.currency_code)
    )
    if campaign is not None:
        query = query.where(_DIMENSIONS["campaign"] == campaign)
    return query


def _spending(dimensions: Sequence[Dimension], row: RowMapping) -> Spending:
    currency = row["currency_code"]
    return Spending(
        group=tuple(row[name] or "" for name in dimensions),
        costs={currency: row["cost"]} if currency else {},
        **{name: int(row[name]) for name in _COUNTS},
    )


def _sum(one: Spending, other: Spending) -> Spending:
    """Of the same group in two currencies, or with and without a price."""
    counts = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    return Spending(group=one.group, costs=one.costs | other.costs, **counts)
