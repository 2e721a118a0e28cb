"""What workflow code may know, and that every step has one policy and one activity."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common import errors
from services.common.artifacts import ArtifactStore
from services.common.database import create_engine
from services.orchestrator import policies
from services.orchestrator.activity_shell import as_application_error
from services.orchestrator.clients import Services
from services.orchestrator.worker import build_activities

WORKFLOWS = Path(policies.__file__).parent / "workflows"
FORBIDDEN = ("grpc", "google", "saexplain", "torch", "sqlalchemy", "fsspec")


@pytest.mark.parametrize("module", ["explain_feature", "build_index"])
def test_a_workflow_module_loads_neither_messages_nor_stores(module: str) -> None:
    """Guards against state that crosses the boundary as a message or a tensor. What
    Temporal's own runtime loads (grpc, google.protobuf) is not ours to judge."""
    code = (
        "import sys, temporalio.worker\n"
        "before = set(sys.modules)\n"
        f"import services.orchestrator.workflows.{module}\n"
        f"own = [n for n in set(sys.modules) - before if n.startswith({FORBIDDEN!r})]\n"
        "print(sorted(own))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.py")), ids=lambda p: p.name)
def test_a_workflow_names_only_steps_that_have_a_policy(path: Path) -> None:
    """Guards against a typo that would show as an activity nobody serves."""
    steps = {*policies.STEPS, *policies.LOCAL_STEPS}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            first = node.args[0] if node.args else None
            if name in ("_run_step", "_run_call", "_run_local", "_run_local_call") and isinstance(
                first, ast.Constant
            ):
                assert first.value in steps


async def test_every_policy_has_its_activity_on_its_queue(tmp_path: Path) -> None:
    """Guards against a step whose queue nobody serves."""
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none")
    services = Services(None, None, None, None)  # type: ignore[arg-type]
    activities = build_activities(
        services, engine, ArtifactStore(str(tmp_path)), lambda: datetime.now(UTC)
    )
    by_queue = {
        policies.CONTROL: activities.control,
        policies.ACTIVATION: activities.activation,
        policies.LLM: activities.llm,
        policies.INDEX: activities.index,
    }
    served = {
        queue: {a.__temporal_activity_definition.name for a in found}  # type: ignore[attr-defined]
        for queue, found in by_queue.items()
    }
    for step, policy in policies.STEPS.items():
        assert step in served[policy.queue], step
    assert served[policies.CONTROL] == set(policies.LOCAL_STEPS)
    await engine.dispose()


@pytest.mark.parametrize(
    ("error", "retryable", "delay"),
    [
        (errors.InvalidArgument("x", "f"), False, None),
        (errors.NotFound("x"), False, None),
        (errors.FailedPrecondition("x"), False, None),
        (errors.Unimplemented("x"), False, None),
        (errors.Cancelled("x"), False, None),
        (errors.Unavailable("x"), True, None),
        (errors.DeadlineExceeded("x"), True, None),
        (errors.Aborted("x"), True, None),
        (errors.ResourceExhausted("x", "RATE_LIMITED", retry_after_seconds=7), True, 7.0),
        (errors.ResourceExhausted("x", "BUDGET_EXHAUSTED", retry_after_seconds=7), False, None),
    ],
)
def test_only_what_may_pass_is_tried_again(
    error: errors.SaexplainError, retryable: bool, delay: float | None
) -> None:
    """Guards against money spent on refusals, and against a Retry-After that is ignored."""
    mapped = as_application_error(error, attempt=1)
    assert mapped.type == error.reason
    assert mapped.non_retryable is not retryable
    assert (mapped.next_retry_delay.total_seconds() if mapped.next_retry_delay else None) == delay


def test_a_useless_reply_is_final_after_three_attempts() -> None:
    """Guards against fifteen bought replies of a model that keeps to no schema."""
    error = errors.Aborted("x")
    assert not as_application_error(error, attempt=2).non_retryable
    assert as_application_error(error, attempt=3).non_retryable
