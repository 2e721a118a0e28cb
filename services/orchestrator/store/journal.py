"""What the orchestrator tells the journal of LLM calls, and reads from it."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.common.v1 import usage_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.llm import budgets, rows
from services.common.llm.tables import STATE_IN_FLIGHT
from services.common.llm.usage import to_usage
from services.orchestrator.store.session import transaction


class JournalStore:
    """Budgets and calls of explanations, in the tables of `services/common/llm`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def set_budget(
        self, owner: str, budget: dossier_pb2.Budget, campaign: str | None = None
    ) -> None:
        """Limits what an explanation may spend. Repeats change nothing.

        Args:
            campaign: `projects/{project}/campaigns/{campaign}`, whose budget it spends
                too.
        """
        async with transaction(self._engine) as connection:
            await budgets.create_budget(
                connection,
                owner,
                max_token_count=budget.max_llm_token_count,
                max_cost=Decimal(str(budget.max_cost)) if budget.HasField("max_cost") else None,
                currency_code=budget.currency_code,
                campaign=campaign,
            )

    async def change_limits(
        self, owner: str, *, max_token_count: int | None, max_cost: Decimal | None, currency: str
    ) -> None:
        """Limits what a campaign or a project may spend, also while it runs.

        Args:
            owner: `projects/{project}` or `projects/{project}/campaigns/{campaign}`.
            max_token_count, max_cost: of all its calls together; None for no limit.
        """
        async with transaction(self._engine) as connection:
            await budgets.change_limits(
                connection,
                owner,
                max_token_count=max_token_count,
                max_cost=max_cost,
                currency_code=currency,
            )

    async def cancel(self, owner: str) -> None:
        """Lets an explanation's calls to language models end: none is begun any more."""
        async with transaction(self._engine) as connection:
            await budgets.cancel_owner(connection, owner)

    async def usage(self, owner: str) -> usage_pb2.LlmUsage:
        """All that an explanation's calls cost, failed and lost ones too; see `to_usage`."""
        async with transaction(self._engine) as connection:
            records = await rows.of_owner(connection, owner)
        return to_usage(record for record in records if record.state != STATE_IN_FLIGHT)
