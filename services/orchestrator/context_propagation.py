"""Carries the `CallContext` from the API through workflow headers into activities.

A workflow hands on the header it was started with, so that its code never sees it.
"""

# ruff: noqa: A002 (the names are those of the base classes)

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import temporalio.client
import temporalio.worker
from temporalio import workflow
from temporalio.api.common.v1 import Payload

with workflow.unsafe.imports_passed_through():
    from services.common import call_context

_HEADER = "saexplain-context"


def _encode(context: call_context.CallContext) -> Payload:
    return Payload(
        metadata={"encoding": b"json/plain"},
        data=json.dumps({k: v for k, v in asdict(context).items() if v}).encode(),
    )


def context_of(headers: Any) -> call_context.CallContext:
    """The context in some headers; an empty one where there is none."""
    payload = headers.get(_HEADER)
    if payload is None:
        return call_context.CallContext()
    return call_context.CallContext(**json.loads(payload.data))


class ContextClientInterceptor(temporalio.client.Interceptor):
    """Puts the current context into the header of every workflow that is started."""

    def intercept_client(
        self, next: temporalio.client.OutboundInterceptor
    ) -> temporalio.client.OutboundInterceptor:
        """See the base class."""
        return _Client(next)


class _Client(temporalio.client.OutboundInterceptor):
    async def start_workflow(
        self, input: temporalio.client.StartWorkflowInput
    ) -> temporalio.client.WorkflowHandle[Any, Any]:
        input.headers = {**input.headers, _HEADER: _encode(call_context.current())}
        return await super().start_workflow(input)


class WorkflowContextInbound(temporalio.worker.WorkflowInboundInterceptor):
    """Remembers the header of a run and puts it onto its activities."""

    def init(self, outbound: temporalio.worker.WorkflowOutboundInterceptor) -> None:
        """See the base class."""
        self._outbound = _WorkflowOutbound(outbound)
        super().init(self._outbound)

    async def execute_workflow(self, input: temporalio.worker.ExecuteWorkflowInput) -> Any:
        """See the base class."""
        self._outbound.header = input.headers.get(_HEADER)
        return await super().execute_workflow(input)


class _WorkflowOutbound(temporalio.worker.WorkflowOutboundInterceptor):
    header: Payload | None = None

    def _with_header(self, headers: Any) -> dict[str, Payload]:
        return {**headers, **({_HEADER: self.header} if self.header is not None else {})}

    def start_activity(
        self, input: temporalio.worker.StartActivityInput
    ) -> workflow.ActivityHandle[Any]:
        input.headers = self._with_header(input.headers)
        return super().start_activity(input)

    def start_local_activity(
        self, input: temporalio.worker.StartLocalActivityInput
    ) -> workflow.ActivityHandle[Any]:
        input.headers = self._with_header(input.headers)
        return super().start_local_activity(input)
