"""Guards the one-line way to a language model: an endpoint that is named without a model
must be asked for one, and one that cannot be asked must be told apart from a run."""

from __future__ import annotations

import pytest

from services.cli.demo.provider import DEFAULT_MODEL, llm_configured, model_name
from services.common.errors import FailedPrecondition
from tests.fakes.openai_server import FakeOpenAi

_NAMES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SAEXPLAIN_LLM_MODEL")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)


def test_without_a_provider_nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not llm_configured()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert llm_configured()


async def test_the_endpoint_is_asked_for_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeOpenAi({}) as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url)
        assert await model_name() == "fake"


async def test_a_named_model_wins_and_openai_has_a_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert await model_name() == DEFAULT_MODEL
    monkeypatch.setenv("SAEXPLAIN_LLM_MODEL", "mine")
    assert await model_name() == "mine"


async def test_an_endpoint_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(FailedPrecondition, match=r"127\.0\.0\.1:1") as caught:
        await model_name()
    assert caught.value.reason == "LLM_NOT_CONFIGURED"
