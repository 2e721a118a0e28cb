"""What may be spent, and when the loop has to end because of it.

The journal refuses a call that does not fit the budget; this looks ahead, so that a run
keeps enough for its synthesis instead of spending the last token on a probe.
"""

from __future__ import annotations

from collections.abc import Sequence

from saexplain.common.v1 import experiment_pb2, usage_pb2
from saexplain.explanation.v1 import dossier_pb2
from services.common.llm.dialect import default_output_token_count
from services.orchestrator.records import Spending

DEFAULT_LLM_TOKENS = 200_000
DEFAULT_PROBES = 400
MOST_ROUNDS = 14

BUDGET_STOPS = frozenset(
    {
        dossier_pb2.STOP_REASON_ROUNDS_SPENT,
        dossier_pb2.STOP_REASON_LLM_TOKENS_SPENT,
        dossier_pb2.STOP_REASON_COST_SPENT,
        dossier_pb2.STOP_REASON_PROBES_SPENT,
    }
)
"""Stops after which a run with open hypotheses is partial."""


def stop_name(stop: dossier_pb2.StopReason.ValueType) -> str:
    """The name of a stop without its prefix, as records carry it."""
    return dossier_pb2.StopReason.Name(stop).removeprefix("STOP_REASON_")


def stop_value(name: str) -> dossier_pb2.StopReason.ValueType:
    """The stop of a name without its prefix."""
    return dossier_pb2.StopReason.Value(f"STOP_REASON_{name}")


def reply_limit(llm: usage_pb2.LlmOptions) -> int:
    """Tokens that one reply may take. The journal sets them aside before a call is sent."""
    if llm.HasField("max_output_token_count"):
        return llm.max_output_token_count
    return default_output_token_count(llm.model)


def spent(
    budget: dossier_pb2.Budget, used: Spending, round_number: int, reserve: int = 0
) -> dossier_pb2.StopReason.ValueType | None:
    """Which budget does not allow another round after round `round_number`, if any.

    Another round is allowed if what the last one took and a synthesis still fit.

    Args:
        reserve: tokens that have to be left for the reply of the synthesis.
    """
    if round_number >= budget.max_round_count:
        return dossier_pb2.STOP_REASON_ROUNDS_SPENT
    if used.probe_count >= budget.max_probe_count:
        return dossier_pb2.STOP_REASON_PROBES_SPENT
    ahead = used.last_round_token_count + used.synthesis_token_count + reserve
    if used.llm_token_count and used.llm_token_count + ahead > budget.max_llm_token_count:
        return dossier_pb2.STOP_REASON_LLM_TOKENS_SPENT
    if budget.HasField("max_cost") and used.llm_token_count:
        projected = used.cost * (1 + ahead / used.llm_token_count)
        if projected > budget.max_cost:
            return dossier_pb2.STOP_REASON_COST_SPENT
    return None


def keep_within(
    probes: Sequence[experiment_pb2.Probe], remaining: int
) -> list[experiment_pb2.Probe]:
    """At most `remaining` probes, taken in turn from every hypothesis and side, so that a
    short budget starves none. The order of the kept ones stays."""
    if len(probes) <= remaining:
        return list(probes)
    turns: dict[tuple[str, bool], int] = {}
    ranked: list[tuple[int, int]] = []
    for position, probe in enumerate(probes):
        side = (probe.hypothesis_id, probe.predicted_active)
        turns[side] = turns.get(side, 0) + 1
        ranked.append((turns[side], position))
    kept = sorted(position for _, position in sorted(ranked)[: max(remaining, 0)])
    return [probes[position] for position in kept]


_COUNTERS = (
    "prompt_token_count",
    "cached_prompt_token_count",
    "completion_token_count",
    "reasoning_token_count",
    "request_count",
    "failed_request_count",
    "reused_reply_count",
)


def token_count(usage: usage_pb2.LlmUsage) -> int:
    """Tokens of all kinds; cached and reasoning ones are parts of the two counted."""
    return usage.prompt_token_count + usage.completion_token_count


def add_usage(total: usage_pb2.LlmUsage, more: usage_pb2.LlmUsage) -> None:
    """Adds `more` to `total` in place. The cost of a sum with an unknown part is unknown."""
    if more == usage_pb2.LlmUsage():
        return
    had_calls = total != usage_pb2.LlmUsage()
    known = more.HasField("cost") and (not had_calls or total.HasField("cost"))
    known = known and total.currency_code in ("", more.currency_code)
    for field in _COUNTERS:
        setattr(total, field, getattr(total, field) + getattr(more, field))
    total.calls.extend(more.calls)
    if known:
        total.cost += more.cost
        total.currency_code = more.currency_code
    else:
        total.ClearField("cost")
        total.currency_code = ""
