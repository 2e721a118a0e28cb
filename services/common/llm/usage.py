"""From journal records to the usage that responses carry."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from saexplain.common.v1.usage_pb2 import LLM_CALL_OUTCOME_OK, LlmCall, LlmUsage
from services.common.llm.calls import CallRecord
from services.common.llm.tables import STATE_STORED


def to_usage(records: Iterable[CallRecord]) -> LlmUsage:
    """Folds requests, failed and lost ones included, in the order of sending.

    A reused reply counts with what it once cost: a step's usage is what the step cost,
    whichever of its attempts paid. The cost is absent as soon as that of one reply is
    unknown: a part of the cost is not the cost. What a provider charged for a lost call
    or one that it failed is known to nobody and not in it.
    """
    usage = LlmUsage()
    ordered = sorted({record.number: record for record in records}.values(), key=_number)
    for record in ordered:
        usage.calls.append(_to_call(record))
        usage.prompt_token_count += record.tokens.prompt
        usage.cached_prompt_token_count += record.tokens.cached_prompt
        usage.completion_token_count += record.tokens.completion
        usage.reasoning_token_count += record.tokens.reasoning
        usage.request_count += 1
        usage.failed_request_count += record.outcome != LLM_CALL_OUTCOME_OK
        usage.reused_reply_count += record.reused
    priced = [record for record in ordered if record.cost is not None]
    if priced and all(r.cost is not None for r in ordered if r.state == STATE_STORED):
        usage.cost = float(sum((r.cost for r in priced if r.cost is not None), Decimal(0)))
        usage.currency_code = priced[0].currency_code
    return usage


def _number(record: CallRecord) -> int:
    return record.number


def _to_call(record: CallRecord) -> LlmCall:
    return LlmCall(
        step=record.step,
        model=record.model,
        outcome=record.outcome,
        prompt_token_count=record.tokens.prompt,
        cached_prompt_token_count=record.tokens.cached_prompt,
        completion_token_count=record.tokens.completion,
        reasoning_token_count=record.tokens.reasoning,
        prompt_fingerprint=record.prompt_fingerprint,
        reused=record.reused,
    )
