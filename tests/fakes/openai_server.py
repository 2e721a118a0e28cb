"""A scripted OpenAI-compatible server, over real HTTP on 127.0.0.1.

In a test:

    async with FakeOpenAi({"propose_hypotheses": lambda request: {...}}) as fake:
        settings = LlmSettings(base_url=fake.base_url, api_key="test")
        ...
        assert fake.count("propose_hypotheses") == 1

A responder gets a `ChatRequest` and returns (or awaits) the reply as a dict, or a
`Fault`. It is chosen by the name of the JSON schema asked for, `*` is for any other; a
list of them is used up in order, the last one for good.

As a process, driving whole explanation runs with the responders of `scientist`:

    python -m tests.fakes.openai_server --port 8123 --script script.json

`script.json` may hold `faults` (schema name to a list of faults, used up before the
first good reply), `accepted_formats`, `rejected_parameters` and `delay_seconds`.
`GET /calls` answers with the number of calls by schema name.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import re
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.faults import Fault

_NAMED_IN_TEXT = re.compile(r'JSON schema "([A-Za-z0-9_-]+)"')


@dataclass(frozen=True)
class ChatRequest:
    """A request for a completion.

    Attributes:
        body: the JSON as it was sent.
        headers: the HTTP headers.
        number: how many requests for this schema came before it.
    """

    body: dict[str, Any]
    headers: Mapping[str, str]
    number: int

    @property
    def schema_name(self) -> str:
        """Name of the schema asked for, by `response_format` or in the text; or empty."""
        response_format = self.body.get("response_format") or {}
        if response_format.get("type") == "json_schema":
            return str(response_format["json_schema"]["name"])
        named = _NAMED_IN_TEXT.findall(self.text)
        return named[-1] if named else ""

    @property
    def schema(self) -> dict[str, Any]:
        """The schema asked for by `response_format`, or empty."""
        response_format = self.body.get("response_format") or {}
        return dict((response_format.get("json_schema") or {}).get("schema") or {})

    @property
    def text(self) -> str:
        """All messages, one after the other."""
        return "\n".join(str(message.get("content")) for message in self.body["messages"])

    @property
    def last_text(self) -> str:
        """The last message of the user."""
        users = [m for m in self.body["messages"] if m["role"] == "user"]
        return str(users[-1]["content"]) if users else ""


Reply = dict[str, Any] | Fault
Alternatives = tuple[str, Sequence[tuple[str, float]]]
Responder = Callable[[ChatRequest], Reply | Awaitable[Reply]]
Script = Mapping[str, Responder | Reply | Sequence[Responder | Reply]]


class FakeOpenAi:
    """The server, as an async context manager.

    Args:
        replies: schema name (or `*`) to a responder, a fixed reply, or a list of them.
        accepted_formats: types of `response_format` that are not refused with 400.
        rejected_parameters: parameters that are refused with 400.
        delay_seconds: how long every good answer takes.
        alternatives: from the text of a reply to its tokens with their likeliest
            alternatives, given where a request asks for them; None: never given.
        embeddings: a vector per text, or a fault (`status`, or `content` as the body);
            None: `bag_of_words`.
    """

    def __init__(
        self,
        replies: Script,
        *,
        port: int = 0,
        accepted_formats: Sequence[str] = ("json_schema", "json_object", "text"),
        rejected_parameters: Sequence[str] = (),
        delay_seconds: float = 0.0,
        alternatives: Callable[[str], Sequence[Alternatives]] | None = None,
        embeddings: Callable[[str], Sequence[float]] | Fault | None = None,
    ) -> None:
        self._embeddings = embeddings or bag_of_words
        self._alternatives = alternatives
        self._replies: dict[str, list[Responder | Reply]] = {
            name: list(value) if isinstance(value, list | tuple) else [value]  # type: ignore[list-item]
            for name, value in replies.items()
        }
        self._port = port
        self._accepted_formats = tuple(accepted_formats)
        self._rejected_parameters = tuple(rejected_parameters)
        self._delay_seconds = delay_seconds
        self._stopping = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.embedded: list[dict[str, Any]] = []
        """Every request for embeddings that arrived, as it was sent."""
        self.requests: list[ChatRequest] = []
        """Every request for a completion that arrived, refused ones included."""

    @property
    def base_url(self) -> str:
        """What a client is given as its base URL."""
        return f"http://127.0.0.1:{self._port}/v1"

    def count(self, schema_name: str | None = None) -> int:
        """Requests for completions so far, of one schema or of all."""
        return sum(schema_name in (None, r.schema_name) for r in self.requests)

    async def wait_for_count(self, count: int, schema_name: str | None = None) -> None:
        """Returns once so many requests have arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.count(schema_name) >= count)

    async def __aenter__(self) -> FakeOpenAi:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/calls", self._calls)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _embed(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        self.embedded.append(body)
        if isinstance(self._embeddings, Fault):
            if self._embeddings.kind == "status":
                return _error(self._embeddings)
            return web.Response(text=self._embeddings.content, content_type="application/json")
        vectors = [self._embeddings(text) for text in body["input"]]
        data = [
            {"object": "embedding", "index": i, "embedding": list(v)} for i, v in enumerate(vectors)
        ]
        tokens = sum(len(text) // 4 + 1 for text in body["input"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = {"object": "list", "model": body["model"], "data": data, "usage": usage}
        return web.json_response(reply)

    async def _calls(self, _: web.Request) -> web.Response:
        return web.json_response(dict(Counter(r.schema_name for r in self.requests)))

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        request = ChatRequest(body, dict(http.headers), 0)
        request = ChatRequest(body, dict(http.headers), self.count(request.schema_name))
        self.requests.append(request)
        async with self._arrived:
            self._arrived.notify_all()
        refused = self._refused_parameter(body)
        if refused is not None:
            return _error(refused)
        reply = await self._reply(request)
        if isinstance(reply, Fault):
            return await self._misbehave(http, request, reply)
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        content = json.dumps(reply, ensure_ascii=False)
        completion = _completion(request, content)
        if self._alternatives is not None and request.body.get("logprobs"):
            completion["choices"][0]["logprobs"] = _logprobs(self._alternatives(content))
        return web.json_response(completion)

    def _refused_parameter(self, body: dict[str, Any]) -> Fault | None:
        kind = (body.get("response_format") or {}).get("type", "text")
        blamed = [name for name in self._rejected_parameters if name in body]
        if kind not in self._accepted_formats:
            blamed.insert(0, "response_format")
        if not blamed:
            return None
        return Fault(
            "status",
            400,
            message=f"Unsupported parameter: '{blamed[0]}' is not supported here.",
            param=blamed[0],
            code="unsupported_parameter",
        )

    async def _reply(self, request: ChatRequest) -> Reply:
        queue = self._replies.get(request.schema_name) or self._replies.get("*")
        if queue is None:
            return Fault("status", 500, message=f"no script for {request.schema_name!r}")
        responder = queue.pop(0) if len(queue) > 1 else queue[0]
        if not callable(responder):
            return responder
        reply = responder(request)
        return await reply if inspect.isawaitable(reply) else reply

    async def _misbehave(
        self, http: web.Request, request: ChatRequest, fault: Fault
    ) -> web.StreamResponse:
        if fault.kind == "status":
            return _error(fault)
        if fault.kind == "not_json":
            return web.Response(text="<html>gateway</html>", content_type="text/html")
        if fault.kind == "hang":
            await self._stopping.wait()
        if fault.kind in ("hang", "close"):
            _cut(http)
            return web.Response(status=500)
        completion = _faulty_completion(request, fault)
        if fault.kind != "close_midway":
            return web.json_response(completion)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = 10_000
        await response.prepare(http)
        await response.write(json.dumps(completion).encode()[:40])
        _cut(http)
        return response


def bag_of_words(text: str) -> list[float]:
    """How often words of 64 kinds stand in a text, and a constant that makes it a vector."""
    counts = [0.0] * 64
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % 64] += 1.0
    return [*counts, 0.1]


def _cut(http: web.Request) -> None:
    if http.transport is not None:
        http.transport.abort()


def _error(fault: Fault) -> web.Response:
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    error = {
        "message": fault.message,
        "type": "invalid_request_error" if fault.status < 500 else "server_error",
        "param": fault.param,
        "code": fault.code,
    }
    return web.json_response({"error": error}, status=fault.status, headers=headers)


def _logprobs(tokens: Sequence[Alternatives]) -> dict[str, Any]:
    return {
        "content": [
            {
                "token": token,
                "logprob": top[0][1],
                "bytes": list(token.encode()),
                "top_logprobs": [{"token": t, "logprob": v, "bytes": None} for t, v in top],
            }
            for token, top in tokens
        ]
    }


def _completion(
    request: ChatRequest,
    content: str | None,
    *,
    finish_reason: str = "stop",
    refusal: str | None = None,
) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    prompt, reply = len(request.text) // 4 + 1, len(content or refusal or "") // 4 + 1
    return {
        "id": f"chatcmpl-{request.number}",
        "object": "chat.completion",
        "created": 0,
        "model": request.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": reply,
            "total_tokens": prompt + reply,
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
            "completion_tokens_details": {"reasoning_tokens": reply // 2},
        },
    }


def _faulty_completion(request: ChatRequest, fault: Fault) -> dict[str, Any]:
    match fault.kind:
        case "content":
            return _completion(request, fault.content)
        case "broken_json":
            return _completion(request, '{"hypotheses": [{"statement": "half a')
        case "wrong_schema":
            return _completion(request, '{"unexpected": 1}')
        case "truncated":
            return _completion(request, '{"hypotheses": [', finish_reason="length")
        case "refusal":
            return _completion(request, None, refusal="I cannot help with that.")
        case "content_filter":
            return _completion(request, None, finish_reason="content_filter")
        case "empty":
            return _completion(request, "")
        case "no_choices":
            return {**_completion(request, None), "choices": []}
        case _:
            return _completion(request, "{}")


def script_from(data: Mapping[str, Any], replies: Mapping[str, Responder]) -> Script:
    """The responders with the faults of a script file before them."""
    faults = {name: [Fault(**f) for f in listed] for name, listed in data.get("faults", {}).items()}
    unknown = sorted(set(faults) - set(replies))
    if unknown:
        raise ValueError(f"no such schema in the script: {', '.join(unknown)}")
    return {name: [*faults.get(name, []), responder] for name, responder in replies.items()}


async def _serve(port: int, data: Mapping[str, Any]) -> None:
    from tests.fakes.scientist import REPLIES

    fake = FakeOpenAi(
        script_from(data, REPLIES),
        port=port,
        accepted_formats=data.get("accepted_formats", ("json_schema", "json_object", "text")),
        rejected_parameters=data.get("rejected_parameters", ()),
        delay_seconds=data.get("delay_seconds", 0.0),
    )
    async with fake:
        print(fake.base_url, flush=True)  # noqa: T201 (the address, for whoever started it)
        await asyncio.Event().wait()


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path)
    arguments = parser.parse_args()
    data = json.loads(arguments.script.read_text()) if arguments.script else {}
    asyncio.run(_serve(arguments.port, data))


if __name__ == "__main__":
    main()
