"""What the orchestrator tells the journal of LLM calls, and reads from it."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from saexplain.common.v1 import usage_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.llm.tables import STATE_IN_FLIGHT, llm_budgets, llm_calls
from services.orchestrator.store.session import transaction


class JournalStore:
    """Budgets and calls of explanations, in the tables of `services/common/llm`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def set_budget(self, owner: str, budget: dossier_pb2.Budget) -> None:
        """Limits what an explanation may spend. Repeats change nothing."""
        values = {
            "owner": owner,
            "max_token_count": budget.max_llm_token_count,
            "max_cost": Decimal(str(budget.max_cost)) if budget.HasField("max_cost") else None,
            "currency_code": budget.currency_code,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(insert(llm_budgets).values(values).on_conflict_do_nothing())

    async def cancel(self, owner: str) -> None:
        """Lets an explanation's calls to language models end: none is begun any more."""
        async with transaction(self._engine) as connection:
            await connection.execute(
                update(llm_budgets)
                .where(llm_budgets.c.owner == owner, llm_budgets.c.cancel_time.is_(None))
                .values(cancel_time=func.now())
            )

    async def usage(self, owner: str) -> usage_pb2.LlmUsage:
        """All that an explanation's calls cost: failed and lost ones too."""
        query = (
            select(llm_calls)
            .where(llm_calls.c.owner == owner, llm_calls.c.state != STATE_IN_FLIGHT)
            .order_by(llm_calls.c.id)
        )
        usage = usage_pb2.LlmUsage()
        costs: list[Decimal | None] = []
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(query)).mappings().all()
        for row in rows:
            usage.calls.append(
                usage_pb2.LlmCall(
                    step=row["step"],
                    model=row["model"],
                    outcome=usage_pb2.LlmCallOutcome.Value(f"LLM_CALL_OUTCOME_{row['outcome']}"),
                    prompt_token_count=row["prompt_token_count"],
                    completion_token_count=row["completion_token_count"],
                    prompt_fingerprint=row["prompt_fingerprint"],
                    cached_prompt_token_count=row["cached_prompt_token_count"],
                    reasoning_token_count=row["reasoning_token_count"],
                )
            )
            usage.prompt_token_count += row["prompt_token_count"]
            usage.cached_prompt_token_count += row["cached_prompt_token_count"]
            usage.completion_token_count += row["completion_token_count"]
            usage.reasoning_token_count += row["reasoning_token_count"]
            usage.request_count += 1
            usage.failed_request_count += row["outcome"] != "OK"
            if row["cost"] is not None or row["prompt_token_count"] + row["completion_token_count"]:
                # A call that used no token has no price to know.
                costs.append(row["cost"])
            usage.currency_code = row["currency_code"] or usage.currency_code
        if costs and all(cost is not None for cost in costs):
            usage.cost = float(sum(cost for cost in costs if cost is not None))
        else:
            usage.currency_code = ""
        return usage
