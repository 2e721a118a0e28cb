"""Guards invariants 1 and 2: whatever a provider sends, over real HTTP, either a
validated value comes back or a typed outcome or error, and every request is counted.
The load-bearing check is that no fault yields a value."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from saexplain.common.v1 import usage_pb2 as pb
from saexplain.common.v1.usage_pb2 import LlmOptions
from services.common import errors
from services.common.llm.calls import ChatMessage
from services.common.llm.session import open_language_model, require_language_model
from services.common.llm.settings import LlmSettings
from tests.common.llm.conftest import GOOD, OPTIONS, QUESTION, journal_rows, scope
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAi


async def test_a_good_reply_is_a_value_with_its_usage(connect) -> None:
    async with FakeOpenAi({"colour": GOOD}) as fake:
        session = connect(fake).session(scope())
        answer = await session.ask(QUESTION, OPTIONS)
        usage = session.usage()
    assert answer.value().name == "red"
    assert usage.request_count == 1
    assert usage.failed_request_count == usage.reused_reply_count == 0
    assert usage.prompt_token_count > 0 < usage.completion_token_count
    assert usage.calls[0].prompt_fingerprint == QUESTION.prompt_fingerprint
    assert not usage.HasField("cost"), "the price of this model is not known"


async def test_a_known_price_gives_a_cost_that_adds_up(connect) -> None:
    async with FakeOpenAi({"colour": GOOD}) as fake:
        session = connect(fake).session(scope())
        await session.ask(QUESTION, LlmOptions(model="priced"))
        usage = session.usage()
    fresh = usage.prompt_token_count - usage.cached_prompt_token_count
    millionths = fresh * 10 + usage.cached_prompt_token_count + usage.completion_token_count * 100
    assert usage.cost == pytest.approx(millionths / 1e6)
    assert usage.currency_code == "USD"


@pytest.mark.parametrize(
    ("kind", "outcome", "requests"),
    [
        ("broken_json", pb.LLM_CALL_OUTCOME_UNPARSED, 2),
        ("wrong_schema", pb.LLM_CALL_OUTCOME_UNPARSED, 2),
        ("refusal", pb.LLM_CALL_OUTCOME_REFUSED, 1),
        ("truncated", pb.LLM_CALL_OUTCOME_TRUNCATED, 1),
        ("content_filter", pb.LLM_CALL_OUTCOME_FILTERED, 1),
        ("empty", pb.LLM_CALL_OUTCOME_EMPTY, 1),
        ("no_choices", pb.LLM_CALL_OUTCOME_EMPTY, 1),
    ],
)
async def test_an_unusable_reply_has_no_value_and_is_not_bought_again(
    connect, kind, outcome, requests
) -> None:
    """Unparsed is not wrong is not zero; one repair at most, and it counts."""
    async with FakeOpenAi({"colour": Fault(kind)}) as fake:
        for _ in range(2):
            session = connect(fake).session(scope())
            answer = await session.ask(QUESTION, OPTIONS)
            assert answer.outcome == outcome
            assert not answer.ok
            with pytest.raises(errors.Aborted) as caught:
                answer.value()
            assert caught.value.reason == "LLM_REPLY_UNUSABLE"
            assert session.usage().failed_request_count == requests
        assert fake.count() == requests


async def test_a_repaired_reply_is_a_value_and_costs_two_requests(connect) -> None:
    async with FakeOpenAi({"colour": [Fault("wrong_schema"), GOOD]}) as fake:
        session = connect(fake).session(scope())
        answer = await session.ask(QUESTION, OPTIONS)
        assert answer.value().share == 0.5
        assert [c.outcome for c in session.usage().calls] == [
            pb.LLM_CALL_OUTCOME_UNPARSED,
            pb.LLM_CALL_OUTCOME_OK,
        ]
        complaint = fake.requests[1].last_text
    assert "unexpected" in complaint or "Field required" in complaint
    assert 'JSON schema "colour"' in complaint


@pytest.mark.parametrize("content", ['{"name": "red", "share": NaN', "[]", "null", '"red"', "0.5"])
async def test_json_of_another_kind_is_no_value(connect, content) -> None:
    async with FakeOpenAi({"*": Fault("content", content=content)}) as fake:
        answer = await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
    assert answer.outcome == pb.LLM_CALL_OUTCOME_UNPARSED


async def test_a_lone_surrogate_in_a_reply_is_unparsed_not_a_crash(connect) -> None:
    broken = Fault("content", content='{"name": "\\ud800", "share": 1}')
    async with FakeOpenAi({"*": broken}) as fake:
        answer = await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
    assert answer.outcome == pb.LLM_CALL_OUTCOME_UNPARSED


async def test_a_nul_in_a_reply_does_not_break_the_journal(connect) -> None:
    escaped = Fault("content", content='{"name": "a\x00", "share": 1}')
    async with FakeOpenAi({"*": escaped}) as fake:
        answer = await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
    assert answer.outcome == pb.LLM_CALL_OUTCOME_UNPARSED


def _in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("fault", "error", "reason", "delay"),
    [
        (Fault("status", 429, "7"), errors.ResourceExhausted, "RATE_LIMITED", (7, 7)),
        (
            Fault("status", 429, _in_seconds(7200)),
            errors.ResourceExhausted,
            "RATE_LIMITED",
            (1, 7200),
        ),
        (Fault("status", 429), errors.ResourceExhausted, "RATE_LIMITED", None),
        (Fault("status", 429, "soon"), errors.ResourceExhausted, "RATE_LIMITED", None),
        (Fault("status", 503, "2.5"), errors.Unavailable, "LLM_UNAVAILABLE", (2.5, 2.5)),
        (Fault("status", 500), errors.Unavailable, "LLM_UNAVAILABLE", None),
        (Fault("status", 408), errors.Unavailable, "LLM_UNAVAILABLE", None),
        (Fault("status", 409), errors.Unavailable, "LLM_UNAVAILABLE", None),
        (Fault("not_json"), errors.Unavailable, "LLM_UNAVAILABLE", None),
        (Fault("close"), errors.Unavailable, "LLM_UNAVAILABLE", None),
        (Fault("close_midway"), errors.Unavailable, "LLM_UNAVAILABLE", None),
        (Fault("status", 401), errors.FailedPrecondition, "LLM_REQUEST_REJECTED", None),
        (Fault("status", 404), errors.FailedPrecondition, "LLM_REQUEST_REJECTED", None),
        (Fault("status", 400), errors.FailedPrecondition, "LLM_REQUEST_REJECTED", None),
        (
            Fault("status", 429, code="insufficient_quota"),
            errors.FailedPrecondition,
            "LLM_REQUEST_REJECTED",
            None,
        ),
    ],
    ids=lambda value: f"{value.kind} {value.status}" if isinstance(value, Fault) else None,
)
async def test_a_providers_error_is_typed_counted_and_asked_once(
    connect, engine, fault, error, reason, delay
) -> None:
    async with FakeOpenAi({"colour": [fault, GOOD]}) as fake:
        model = connect(fake)
        session = model.session(scope())
        with pytest.raises(error) as caught:
            await session.ask(QUESTION, OPTIONS)
        assert fake.count() == 1, "retries are Temporal's"
        assert session.usage().failed_request_count == 1
        assert caught.value.reason == reason
        if delay is None:
            assert caught.value.retry_after_seconds is None
        else:
            assert delay[0] <= caught.value.retry_after_seconds <= delay[1]
        # The step is repeated by whoever owns retries, and pays once more.
        again = model.session(scope())
        assert (await again.ask(QUESTION, OPTIONS)).ok
        assert [c.outcome for c in again.usage().calls] == [
            pb.LLM_CALL_OUTCOME_PROVIDER_ERROR,
            pb.LLM_CALL_OUTCOME_OK,
        ]
    assert await journal_rows(engine) == [(1, "FAILED", "PROVIDER_ERROR"), (2, "STORED", "OK")]


async def test_no_answer_at_all_is_unavailable_after_the_time_allowed(connect) -> None:
    async with FakeOpenAi({"colour": Fault("hang")}) as fake:
        with pytest.raises(errors.Unavailable) as caught:
            await connect(fake, timeout_seconds=0.3).session(scope()).ask(QUESTION, OPTIONS)
    assert caught.value.reason == "LLM_UNAVAILABLE"


async def test_a_provider_that_is_not_there_is_unavailable(connect) -> None:
    async with FakeOpenAi({}) as fake:
        pass
    with pytest.raises(errors.Unavailable) as caught:
        await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
    assert caught.value.reason == "LLM_UNAVAILABLE"


@pytest.mark.parametrize(
    ("accepted", "requests"),
    [(("json_schema",), 1), (("json_object", "text"), 2), (("text",), 3)],
    ids=["schema", "json mode", "instruction"],
)
async def test_the_way_of_asking_for_json_is_found_out_once(connect, accepted, requests) -> None:
    """A fresh question pays for no refusal any more; every refused request is counted."""
    async with FakeOpenAi({"colour": GOOD}, accepted_formats=accepted) as fake:
        model = connect(fake)
        session = model.session(scope(0))
        assert (await session.ask(QUESTION, OPTIONS)).ok
        assert session.usage().request_count == fake.count() == requests
        assert (await model.session(scope(1)).ask(QUESTION, OPTIONS)).ok
        assert fake.count() == requests + 1


async def test_parameters_that_an_endpoint_refuses_are_left_out(connect) -> None:
    options = LlmOptions(model="plain", temperature=0.5, seed=3)
    refused = ("max_completion_tokens", "temperature", "seed")
    async with FakeOpenAi({"colour": GOOD}, rejected_parameters=refused) as fake:
        assert (await connect(fake).session(scope()).ask(QUESTION, options)).ok
        body = fake.requests[-1].body
    assert body["max_tokens"] == 4096
    assert not {"temperature", "seed", "max_completion_tokens"} & set(body)


@pytest.mark.parametrize(("model", "sent"), [("gpt-5-mini", False), ("o3", False), ("llama", True)])
async def test_reasoning_models_get_no_temperature(connect, model, sent) -> None:
    options = LlmOptions(model=model, temperature=0.0)
    async with FakeOpenAi({"colour": GOOD}) as fake:
        await connect(fake).session(scope()).ask(QUESTION, options)
        body = fake.requests[0].body
    assert ("temperature" in body) is sent


def _one_token(content: str) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(content, [(content, -0.1), ("{", -2.5)])]


async def test_probabilities_of_a_reply_come_with_it_and_are_stored(connect) -> None:
    """Guards against a stored reply that has lost what was bought with it."""
    question = replace(QUESTION, top_logprob_count=2)
    async with FakeOpenAi({"colour": GOOD}, alternatives=_one_token) as fake:
        model = connect(fake)
        bought = await model.session(scope()).ask(question, OPTIONS)
        stored = await model.session(scope()).ask(question, OPTIONS)
        assert fake.count() == 1
        assert fake.requests[0].body["top_logprobs"] == 2
        plain = await model.session(scope(1)).ask(QUESTION, OPTIONS)
    assert bought.alternatives is not None
    assert [value for _, value in bought.alternatives[0].top] == [-0.1, -2.5]
    assert stored.alternatives == bought.alternatives
    assert plain.alternatives is None, "what nobody asked for is not bought"


@pytest.mark.parametrize("refused", [(), ("logprobs",)], ids=["not given", "refused"])
async def test_an_endpoint_without_probabilities_still_answers(connect, refused) -> None:
    question = replace(QUESTION, top_logprob_count=2)
    async with FakeOpenAi({"colour": GOOD}, rejected_parameters=refused) as fake:
        answer = await connect(fake).session(scope()).ask(question, OPTIONS)
    assert answer.ok
    assert answer.alternatives is None


async def test_a_reasoning_model_is_allowed_to_think_and_asked_for_no_probabilities(
    connect,
) -> None:
    question = replace(QUESTION, top_logprob_count=2)
    async with FakeOpenAi({"colour": GOOD}, alternatives=_one_token) as fake:
        answer = await connect(fake).session(scope()).ask(question, LlmOptions(model="o3"))
        body = fake.requests[0].body
    assert answer.alternatives is None
    assert body["max_completion_tokens"] == 20_480
    assert not {"logprobs", "temperature"} & set(body)


async def test_what_an_endpoint_refuses_does_not_make_stored_replies_unknown(connect) -> None:
    """The request's hash must not depend on the dialect, which a restart forgets."""
    async with FakeOpenAi({"colour": GOOD}, accepted_formats=("text",)) as fake:
        await connect(fake).session(scope()).ask(QUESTION, OPTIONS)
        before = fake.count()
        session = connect(fake).session(scope())
        assert (await session.ask(QUESTION, OPTIONS)).ok
        assert fake.count() == before
        assert session.usage().reused_reply_count == 1


async def test_without_a_provider_or_a_journal_there_is_no_model() -> None:
    assert open_language_model(LlmSettings(api_key="k", database_url=None)) is None
    nobody = LlmSettings(api_key=None, base_url=None, database_url="postgresql://nowhere/x")
    assert open_language_model(nobody) is None
    with pytest.raises(errors.FailedPrecondition) as caught:
        require_language_model(None)
    assert caught.value.reason == "LLM_NOT_CONFIGURED"


async def test_a_prompt_beyond_the_limit_is_refused_unsent(connect) -> None:
    large = replace(QUESTION, messages=(ChatMessage("user", "x" * 2**21),))
    async with FakeOpenAi({"colour": GOOD}) as fake:
        with pytest.raises(errors.InvalidArgument):
            await connect(fake).session(scope()).ask(large, OPTIONS)
        assert fake.count() == 0


def test_settings_never_show_their_secrets() -> None:
    settings = LlmSettings(api_key="sk-secret", database_url="postgresql://u:password@h/d")
    assert "secret" not in repr(settings)
    assert "password" not in repr(settings)
