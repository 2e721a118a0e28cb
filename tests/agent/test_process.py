"""Guards `python -m services.agent` and the scripted provider as the processes that a demo
starts: both come up, an explainer with a model is available, and SIGTERM ends them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.agent.v1 import agent_pb2_grpc as rpc
from services.common import errors
from services.common.grpc_client import open_channel, rpc_errors
from tests.agent.builders import evidence, options, scope


@asynccontextmanager
async def _process(
    *arguments: str, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    """The address in the log event `listening`."""
    assert process.stderr is not None
    async for line in process.stderr:
        event = json.loads(line)
        if event.get("event") == "listening":
            return str(event["address"])
    raise AssertionError("the service ended before it listened")


@pytest.mark.stack
async def test_the_service_asks_the_scripted_provider_and_ends_on_sigterm(
    database_url: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.json"
    fault = {"kind": "status", "status": 429, "retry_after": "3"}
    script.write_text(json.dumps({"faults": {"propose_hypotheses": [fault]}}))
    fake = _process("tests.fakes.openai_server", "--script", str(script), environment={})
    async with fake as provider:
        assert provider.stdout is not None
        base_url = (await asyncio.wait_for(provider.stdout.readline(), 120)).decode().strip()
        settings = {
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "test",
            "SAEXPLAIN_DATABASE_URL": database_url,
            "SAEXPLAIN_AGENT_LISTEN": "127.0.0.1:0",
            "SAEXPLAIN_LOG_FORMAT": "json",
        }
        async with _process("services.agent", environment=settings) as agent:
            address = await asyncio.wait_for(_address(agent), 120)
            request = pb.ProposeHypothesesRequest(
                options=options(), scope=scope("propose"), evidence=evidence()
            )
            async with open_channel(address) as channel:
                stub = rpc.AgentServiceStub(channel)
                with pytest.raises(errors.ResourceExhausted) as caught:
                    async with rpc_errors():
                        await stub.ProposeHypotheses(request)
                response = await stub.ProposeHypotheses(request)
            agent.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(agent.wait(), 60) == 0
    assert caught.value.retry_after_seconds == 3
    assert len(response.hypotheses) == 4
    assert response.usage.request_count == 2
    assert response.usage.failed_request_count == 1
