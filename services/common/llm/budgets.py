"""Budgets of owners: what may be spent, what is set aside, what is gone.

A call of an explanation is spent from its own budget, its campaign's and its project's,
where there are such. All of it happens within the transaction that claims or ends the
call, under the row locks of these budgets. Limits are hard: what a call may cost at worst
is set aside before it is sent, and what nobody knows the cost of counts at its worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.errors import (
    Cancelled,
    FailedPrecondition,
    ResourceExhausted,
    SaexplainError,
)
from services.common.llm.calls import CallFacts
from services.common.llm.tables import llm_budgets

_ZERO = Decimal(0)


async def create_budget(
    connection: AsyncConnection,
    owner: str,
    *,
    max_token_count: int | None,
    max_cost: Decimal | None = None,
    currency_code: str = "USD",
    campaign: str | None = None,
) -> None:
    """Limits what an owner may spend. An owner that has a budget keeps it.

    Args:
        owner: `projects/{project}`, `…/campaigns/{campaign}` or
            `…/explanations/{explanation}`.
        max_token_count: prompt and completion tokens of all calls; None for no limit.
        max_cost: in `currency_code`; None for no limit.
        campaign: of an explanation: whose budget it spends too.
    """
    row = insert(llm_budgets).values(
        owner=owner,
        max_token_count=max_token_count,
        max_cost=max_cost,
        currency_code=currency_code if max_cost is not None else None,
        campaign=campaign,
    )
    await connection.execute(row.on_conflict_do_nothing())


async def change_limits(
    connection: AsyncConnection,
    owner: str,
    *,
    max_token_count: int | None,
    max_cost: Decimal | None = None,
    currency_code: str = "USD",
) -> None:
    """Sets the limits of an owner anew, while it runs or before; arguments as above. What
    is spent stays; a limit below it only forbids further calls."""
    limits = {
        "max_token_count": max_token_count,
        "max_cost": max_cost,
        "currency_code": currency_code if max_cost is not None else None,
    }
    row = insert(llm_budgets).values(owner=owner, **limits)
    await connection.execute(
        row.on_conflict_do_update(index_elements=[llm_budgets.c.owner], set_=limits)
    )


async def cancel_owner(connection: AsyncConnection, owner: str) -> None:
    """Forbids an owner further calls and stops those in flight: a user's cancel."""
    row = insert(llm_budgets).values(owner=owner, cancel_time=func.now())
    await connection.execute(
        row.on_conflict_do_update(
            index_elements=[llm_budgets.c.owner],
            set_={"cancel_time": func.coalesce(llm_budgets.c.cancel_time, func.now())},
        )
    )


class Room(Enum):
    """Whether the worst case of a call fits."""

    ENOUGH = "enough"
    LATER = "later"
    """It fits what is left, but not beside the calls in flight: whether a call is
    refused must not depend on what else happens to be under way."""


@dataclass(frozen=True)
class Check:
    """What the budgets say to a call. Their rows stay locked until the transaction ends.

    Attributes:
        verdict: room, or why the call must not be made: ResourceExhausted
            BUDGET_EXHAUSTED, Cancelled, or FailedPrecondition where a limit in money
            meets a model without a known price.
        limited: whether anything has to be set aside.
        campaign: of the explanation; empty for none.
    """

    verdict: Room | SaexplainError
    limited: bool
    campaign: str


def project_of(owner: str) -> str:
    """`projects/{project}` of an owner below one; else the owner itself."""
    parts = owner.split("/")
    return "/".join(parts[:2]) if parts[0] == "projects" and len(parts) > 2 else owner


async def check(connection: AsyncConnection, owner: str, facts: CallFacts) -> Check:
    """Asks the budgets of an explanation, its campaign and its project, and locks them."""
    found = (await connection.execute(_scopes(owner, llm_budgets))).mappings().all()
    campaign = next((row["campaign"] for row in found if row["owner"] == owner), None) or ""
    verdicts = [_verdict(row, facts) for row in found]
    refusals = [verdict for verdict in verdicts if isinstance(verdict, SaexplainError)]
    later = Room.LATER if Room.LATER in verdicts else Room.ENOUGH
    return Check(refusals[0] if refusals else later, bool(found), campaign)


async def set_aside(connection: AsyncConnection, owner: str, facts: CallFacts) -> None:
    """Sets the worst case of a call aside in all budgets it is spent from."""
    await _change(
        connection,
        owner,
        reserved_token_count=llm_budgets.c.reserved_token_count + facts.reserved_token_count,
        reserved_cost=llm_budgets.c.reserved_cost + (facts.reserved_cost or _ZERO),
    )


async def settle(
    connection: AsyncConnection,
    owner: str,
    *,
    reserved_token_count: int,
    reserved_cost: Decimal | None,
    spent_token_count: int,
    spent_cost: Decimal | None,
) -> None:
    """Gives back what was set aside for a call and counts what it cost."""
    await _change(
        connection,
        owner,
        # A budget made while the call was in flight has nothing set aside for it.
        reserved_token_count=func.greatest(
            llm_budgets.c.reserved_token_count - reserved_token_count, 0
        ),
        reserved_cost=func.greatest(llm_budgets.c.reserved_cost - (reserved_cost or _ZERO), _ZERO),
        spent_token_count=llm_budgets.c.spent_token_count + spent_token_count,
        spent_cost=llm_budgets.c.spent_cost + (spent_cost or _ZERO),
    )


async def is_cancelled(connection: AsyncConnection, owner: str) -> bool:
    """Whether a user has cancelled the owner, its campaign or its project."""
    query = select(llm_budgets.c.owner).where(
        _spent_from(owner), llm_budgets.c.cancel_time.is_not(None)
    )
    return (await connection.execute(query.limit(1))).first() is not None


def _spent_from(owner: str) -> ColumnElement[bool]:
    leaf = llm_budgets.alias("leaf")
    campaign = select(leaf.c.campaign).where(leaf.c.owner == owner).scalar_subquery()
    return or_(llm_budgets.c.owner.in_({owner, project_of(owner)}), llm_budgets.c.owner == campaign)


def _scopes(owner: str, *columns: Any) -> Select[Any]:
    """Locks the rows of an owner, its campaign and its project: always in this order, so
    that no two transactions wait for each other, and the busiest row last."""
    return (
        select(*columns)
        .where(_spent_from(owner))
        .order_by(llm_budgets.c.owner != owner, llm_budgets.c.owner == project_of(owner))
        .with_for_update(of=llm_budgets)
    )


async def _change(connection: AsyncConnection, owner: str, **values: Any) -> None:
    locked = _scopes(owner, llm_budgets.c.owner).cte("locked")
    await connection.execute(
        update(llm_budgets).where(llm_budgets.c.owner == locked.c.owner).values(**values)
    )


def _verdict(row: RowMapping, facts: CallFacts) -> Room | SaexplainError:
    if row["cancel_time"] is not None:
        return Cancelled("the run was cancelled")
    if row["max_cost"] is not None and (
        facts.reserved_cost is None or facts.currency_code != row["currency_code"]
    ):
        return FailedPrecondition(
            f"the budget limits {row['currency_code']}, and no price of {facts.model!r} "
            "in it is known; drop the limit or set SAEXPLAIN_LLM_PRICES_FILE",
            metadata={"model": facts.model},
        )
    found = [
        _room("tokens", row, "token_count", facts.reserved_token_count),
        _room(row["currency_code"], row, "cost", facts.reserved_cost or _ZERO),
    ]
    refusals = [refusal for refusal in found if isinstance(refusal, SaexplainError)]
    if refusals:
        return refusals[0]
    return Room.LATER if Room.LATER in found else Room.ENOUGH


def _room(unit: str, row: RowMapping, kind: str, needed: Any) -> Room | SaexplainError:
    """Whether `needed` fits beside everything that is spent or set aside."""
    limit, spent, reserved = (row[f"{part}_{kind}"] for part in ("max", "spent", "reserved"))
    if limit is None or spent + reserved + needed <= limit:
        return Room.ENOUGH
    if spent + needed <= limit:
        return Room.LATER
    return ResourceExhausted(
        f"the call may take {needed} {unit}; {spent} of {limit} of {row['owner']} are spent",
        "BUDGET_EXHAUSTED",
        metadata={
            "unit": unit,
            "limit": str(limit),
            "used": str(spent),
            "needed": str(needed),
            "owner": row["owner"],
        },
    )
