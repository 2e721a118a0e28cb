"""Budgets of owners: what may be spent, what is set aside, what is gone.

All of it happens within the transaction that claims or ends a call, under the row lock
of the owner's budget. Limits are hard: what a call may cost at worst is set aside before
it is sent, and what nobody knows the cost of counts at its worst.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import RowMapping, func, select, update
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
) -> None:
    """Limits what an owner may spend. An owner that has a budget keeps it.

    Args:
        owner: `projects/{project}/explanations/{explanation}`.
        max_token_count: prompt and completion tokens of all calls; None for no limit.
        max_cost: in `currency_code`; None for no limit.
    """
    row = insert(llm_budgets).values(
        owner=owner,
        max_token_count=max_token_count,
        max_cost=max_cost,
        currency_code=currency_code if max_cost is not None else None,
    )
    await connection.execute(row.on_conflict_do_nothing())


async def cancel_owner(connection: AsyncConnection, owner: str) -> None:
    """Forbids an owner further calls and stops those in flight: a user's cancel."""
    row = insert(llm_budgets).values(owner=owner, cancel_time=func.now())
    await connection.execute(
        row.on_conflict_do_update(
            index_elements=[llm_budgets.c.owner],
            set_={"cancel_time": func.coalesce(llm_budgets.c.cancel_time, func.now())},
        )
    )


class Reservation(Enum):
    """What became of setting the worst case of a call aside."""

    MADE = "made"
    LATER = "later"
    """It fits what is left, but not beside the calls in flight: whether a call is
    refused must not depend on what else happens to be under way."""


async def reserve(
    connection: AsyncConnection, owner: str, facts: CallFacts
) -> Reservation | SaexplainError:
    """Sets the worst case of a call aside.

    Returns:
        Whether it was, or why the call must not be made: ResourceExhausted
        BUDGET_EXHAUSTED, Cancelled, or FailedPrecondition where a limit in money meets a
        model without a known price.
    """
    row = await _locked(connection, owner)
    if row is None:
        return Reservation.MADE
    refusal = _refusal(row, facts)
    if refusal is None:
        await connection.execute(
            update(llm_budgets)
            .where(llm_budgets.c.owner == owner)
            .values(
                reserved_token_count=llm_budgets.c.reserved_token_count
                + facts.reserved_token_count,
                reserved_cost=llm_budgets.c.reserved_cost + (facts.reserved_cost or _ZERO),
            )
        )
        return Reservation.MADE
    return refusal


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
    await connection.execute(
        update(llm_budgets)
        .where(llm_budgets.c.owner == owner)
        .values(
            # A budget made while the call was in flight has nothing set aside for it.
            reserved_token_count=func.greatest(
                llm_budgets.c.reserved_token_count - reserved_token_count, 0
            ),
            reserved_cost=func.greatest(
                llm_budgets.c.reserved_cost - (reserved_cost or _ZERO), _ZERO
            ),
            spent_token_count=llm_budgets.c.spent_token_count + spent_token_count,
            spent_cost=llm_budgets.c.spent_cost + (spent_cost or _ZERO),
        )
    )


async def is_cancelled(connection: AsyncConnection, owner: str) -> bool:
    """Whether a user has cancelled the owner."""
    query = select(llm_budgets.c.cancel_time).where(llm_budgets.c.owner == owner)
    return (await connection.execute(query)).scalar_one_or_none() is not None


async def _locked(connection: AsyncConnection, owner: str) -> RowMapping | None:
    query = select(llm_budgets).where(llm_budgets.c.owner == owner).with_for_update()
    return (await connection.execute(query)).mappings().one_or_none()


def _refusal(row: RowMapping, facts: CallFacts) -> Reservation | SaexplainError | None:
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
    return refusals[0] if refusals else next((later for later in found if later), None)


def _room(
    unit: str, row: RowMapping, kind: str, needed: Any
) -> Reservation | SaexplainError | None:
    """None if `needed` fits beside everything that is spent or set aside."""
    limit, spent, reserved = (row[f"{part}_{kind}"] for part in ("max", "spent", "reserved"))
    if limit is None or spent + reserved + needed <= limit:
        return None
    if spent + needed <= limit:
        return Reservation.LATER
    return _exhausted(unit, limit, spent, needed)


def _exhausted(unit: str, limit: Any, used: Any, needed: Any) -> ResourceExhausted:
    return ResourceExhausted(
        f"the call may take {needed} {unit}; {used} of {limit} are spent",
        "BUDGET_EXHAUSTED",
        metadata={"unit": unit, "limit": str(limit), "used": str(used), "needed": str(needed)},
    )
