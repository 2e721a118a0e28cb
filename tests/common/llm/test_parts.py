"""Guards the parts without I/O: delays, dialects, replies, prices and prompts. Expected
numbers are by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import jinja2
import pytest
from pydantic import BaseModel

from services.common.llm.calls import ChatMessage, CompletionRequest, TokenCounts
from services.common.llm.dialect import (
    Dialect,
    ReplyFormat,
    after_refusal,
    initial_dialect,
    is_reasoning_model,
)
from services.common.llm.prices import Price, load_prices
from services.common.llm.prompts import PromptSet
from services.common.llm.replies import ReplyModel, parse_reply, wire_schema
from services.common.llm.wire import read_error, retry_after_seconds

_NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class _Inner(ReplyModel):
    title: str


class _Outer(ReplyModel):
    default: int
    items: list[_Inner]


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_a_delay_is_read_as_seconds_or_as_a_date(headers, delay) -> None:
    assert retry_after_seconds(headers, lambda: _NOW) == delay


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a", "param": "x", "code": 3}}, "a"),
        ({"message": "b"}, "b"),
        ({"detail": [{"msg": "c"}]}, "{'detail': [{'msg': 'c'}]}"),
        ({"error": "text"}, "{'error': 'text'}"),
        ("plain", "plain"),
        (None, ""),
    ],
)
def test_errors_of_any_shape_are_read(body, message) -> None:
    assert read_error(body).message == message


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o3-mini", True),
        ("gpt-5", True),
        ("openai/gpt-oss-20b", True),
        ("gpt-4o", False),
        ("gpt-50", False),
        ("/models/o1", True),
        ("phi-o3", False),
    ],
)
def test_reasoning_models_are_known_by_name(model, reasons) -> None:
    assert is_reasoning_model(model) is reasons


def test_a_refusal_steps_down_until_there_is_nothing_left_to_leave_out() -> None:
    dialect: Dialect | None = initial_dialect("m")
    seen = []
    while dialect is not None:
        seen.append(dialect.reply_format)
        dialect = after_refusal(dialect, "response_format", "")
    assert seen == [ReplyFormat.JSON_SCHEMA, ReplyFormat.JSON_OBJECT, ReplyFormat.INSTRUCTION]


def test_a_refusal_of_something_else_changes_nothing() -> None:
    assert after_refusal(Dialect(), "messages", "too long") is None
    assert after_refusal(Dialect(), "", "no such model") is None
    assert after_refusal(Dialect(temperature=False), "temperature", "") is None


@pytest.mark.parametrize(
    "text",
    [
        '{"default": 1, "items": [{"title": "a"}]}',
        '```json\n{"default": 1, "items": [{"title": "a"}]}\n```',
        '<think>{"default": 2}</think>\n{"default": 1, "items": [{"title": "a"}]}',
        'Here you are:\n```\n{"default": 1, "items": [{"title": "a"}]}\n```\nBye.',
    ],
)
def test_json_is_found_whole_fenced_or_behind_a_thought(text: str) -> None:
    assert parse_reply(text, _Outer).value == _Outer(default=1, items=[_Inner(title="a")])


@pytest.mark.parametrize(
    "text",
    [
        '{"default": 1}',
        '{"default": 1, "items": [], "more": 1}',
        '{"default": "one", "items": []}',
        'Sure! {"default": 1, "items": []}',
        '{"default": 1, "items": []} {"default": 2, "items": []}',
        '```\n{"default": 1, "items": []}\n```\n```\n{"default": 2, "items": []}\n```',
        "",
    ],
)
def test_anything_else_has_no_value_and_says_why(text: str) -> None:
    parsed = parse_reply(text, _Outer)
    assert parsed.value is None
    assert parsed.problem


def test_a_wire_schema_keeps_fields_that_are_called_like_keywords() -> None:
    schema = wire_schema(_Outer)
    assert schema["required"] == ["default", "items"]
    assert set(schema["properties"]) == {"default", "items"}
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["_Inner"]["properties"]) == {"title"}
    assert "title" not in schema


def _request(**change) -> CompletionRequest:
    values = {
        "model": "m",
        "messages": (ChatMessage("user", "hello"),),
        "schema_name": "s",
        "schema": {"type": "object"},
        "temperature": None,
        "seed": None,
        "max_output_token_count": 100,
    }
    return CompletionRequest(**{**values, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"messages": (ChatMessage("system", "hello"),)},
        {"schema_name": "t"},
        {"schema": {"type": "array"}},
        {"temperature": 0.0},
        {"seed": 0},
        {"max_output_token_count": 101},
        {"top_logprob_count": 1},
    ],
)
def test_whatever_is_asked_is_in_the_hash(change) -> None:
    assert _request().digest() == _request().digest() != _request(**change).digest()


def test_the_worst_case_covers_prompt_and_reply() -> None:
    text = "naïve 東京 🎉 words " * 50
    worst = _request(messages=(ChatMessage("user", text),)).worst_case_token_count()
    assert worst >= len(text.encode()) // 2 + 100


def test_a_cost_counts_cached_tokens_at_their_own_price() -> None:
    price = Price(input=Decimal(2), cached_input=Decimal("0.5"), output=Decimal(8))
    tokens = TokenCounts(prompt=1_000_000, cached_prompt=400_000, completion=500_000)
    assert price.cost(tokens) == Decimal("5.4")


def test_prices_hold_for_their_host_and_for_snapshots_only() -> None:
    prices = load_prices()
    known = prices.find("api.openai.com", "gpt-5-mini")
    assert known is not None
    assert prices.find("api.openai.com", "gpt-5-mini-2025-08-07") == known
    assert prices.find("api.openai.com", "gpt-5-mini-custom") is None
    assert prices.find("127.0.0.1", "gpt-5-mini") is None


@pytest.mark.parametrize("text", ["[", "hosts: {}", "currency_code: usd\nhosts: {}"])
def test_a_broken_price_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        load_prices(path)


def test_prompts_have_a_fingerprint_and_refuse_missing_values() -> None:
    prompts = PromptSet("services.agent.explainers.llm")
    again = PromptSet("services.agent.explainers.llm")
    assert prompts.fingerprint == again.fingerprint
    assert prompts.fingerprint != PromptSet("services.scorer.judges").fingerprint
    with pytest.raises(jinja2.UndefinedError):
        prompts.render("propose_hypotheses")


def test_templates_stand_on_others_and_change_their_fingerprint() -> None:
    """Guards against explainers that share a template and call it by one fingerprint."""
    shared = PromptSet("services.agent.explainers.llm")
    own = PromptSet("services.agent.explainers.paper", base=shared)
    assert own.render("system") == shared.render("system")
    assert own.fingerprint != shared.fingerprint
    with pytest.raises(ValueError, match="two templates"):
        PromptSet("services.agent.explainers.llm", base=shared)


def test_a_folder_without_templates_is_a_defect() -> None:
    with pytest.raises(ValueError, match="jinja"):
        PromptSet("services.common.llm", ".")


def test_replies_are_frozen() -> None:
    assert issubclass(_Outer, BaseModel)
    with pytest.raises(ValueError, match="frozen"):
        _Inner(title="a").title = "b"  # type: ignore[misc]
