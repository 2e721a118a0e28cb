"""The LLM path against a real server of someone else's: `transformers serve` with a model
of 135 million parameters, which takes `response_format` and keeps to no schema.

Guards invariants 1 and 2 where no script of ours can: what such a server says ends as a
typed outcome, or as a value that truly keeps to the schema. The load-bearing check is that
a value equals its own validation of the stored text."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from saexplain.agent.v1.agent_pb2 import ProposeHypothesesRequest
from saexplain.common.v1 import usage_pb2 as usage
from saexplain.common.v1.usage_pb2 import LlmOptions
from services.activation.encoder.gguf import ensure_converted
from services.agent.explainers.llm.replies import ProposeReply
from services.agent.explainers.sage.explainer import SageExplainer
from services.common import errors
from services.common.llm.calls import ChatMessage
from services.common.llm.replies import parse_reply
from services.common.llm.session import LanguageModel, Question
from services.common.llm.tables import llm_calls
from services.common.settings import default_cache_dir
from tests.agent.builders import evidence, options, scope
from tests.fakes import language_model

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

_START_SECONDS = 240
_UNUSABLE = {
    usage.LLM_CALL_OUTCOME_UNPARSED,
    usage.LLM_CALL_OUTCOME_TRUNCATED,
    usage.LLM_CALL_OUTCOME_EMPTY,
}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def _until_it_answers(base_url: str, process: asyncio.subprocess.Process) -> None:
    """The server listens before its models load; it answers as soon as it listens."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            try:
                async with http.get(f"{base_url}/models"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.3)
    raise AssertionError(f"the server ended with {process.returncode}")


@pytest.fixture
async def third_party(engine, tmp_path: Path) -> AsyncIterator[tuple[LanguageModel, str]]:
    """The server as a process, a language model that asks it, and the model's name there."""
    folder = await asyncio.to_thread(ensure_converted, default_cache_dir())
    port = _free_port()
    base_url = f"http://127.0.0.1:{port}/v1"
    with (tmp_path / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("transformers"), "serve"),
            *("--host", "127.0.0.1", "--port", str(port)),
            stdout=log,
            stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        model = language_model.connect(engine, base_url, timeout_seconds=240)
        try:
            await _until_it_answers(base_url, process)
            yield model, str(folder)
        finally:
            await model.aclose()
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_server_that_keeps_to_no_schema_never_gives_a_value(
    third_party: tuple[LanguageModel, str], engine
) -> None:
    model, name = third_party
    few = LlmOptions(model=name, max_output_token_count=24)

    question = Question(
        "propose_hypotheses",
        ProposeReply,
        (ChatMessage("user", "Say in one word what a cat is."),),
        "f" * 64,
    )
    session = model.session(scope("free"))
    answer = await session.ask(question, few)
    assert answer.outcome in _UNUSABLE
    assert not answer.ok
    with pytest.raises(errors.Aborted):
        answer.value()
    assert session.usage().completion_token_count > 0

    # The explainer on the same server: an error with a reason, never a hypothesis.
    asked = options()
    asked.llm.CopyFrom(few)
    request = ProposeHypothesesRequest(options=asked, scope=scope("steps"), evidence=evidence())
    with pytest.raises(errors.Aborted) as caught:
        await SageExplainer(model).propose(request)
    assert caught.value.reason == "LLM_REPLY_UNUSABLE"

    async with engine.connect() as connection:
        rows = (await connection.execute(select(llm_calls))).mappings().all()
    assert {row["state"] for row in rows} == {"STORED"}
    for row in rows:
        usable = parse_reply(row["reply"], ProposeReply).value is not None
        assert usable == (row["outcome"] == "OK")
