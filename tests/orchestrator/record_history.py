"""Records the history that the replay test replays.

    python -m tests.orchestrator.record_history [explain_feature] [score_explanation] [build_index]

Run it when the workflow is changed on purpose; commit the new file beside the old ones
unless no running explanation can still have an old history.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from saexplain.activation.v1 import activation_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from services.cli.stack.table import temporal_binary
from services.common import embedded_postgres
from services.orchestrator.store.migrate import migrate
from tests.fakes import world
from tests.orchestrator.stack import PROJECT, Stack, open_stack, request

HISTORIES = Path(__file__).parent / "histories"
FOLDER = HISTORIES / "explain_feature"


async def record(stack: Stack, explainer: str) -> None:
    """Runs three rounds and keeps their history."""
    asked = request(explainer_name=explainer, budget=dossier_pb2.Budget(max_round_count=3))
    asked.explainer.positive_probe_count = asked.explainer.negative_probe_count = 1
    created = await stack.create(asked)
    ended = await stack.finish(created.name)
    history = await stack.client.get_workflow_handle(created.name).fetch_history()
    path = FOLDER / f"{explainer}_three_rounds.json"
    path.write_text(history.to_json() + "\n")
    sys.stdout.write(f"{path.name}: {len(history.events)} events, ended in {ended.state}\n")


async def record_scoring(stack: Stack) -> None:
    """Scores an explanation from elsewhere by both methods and keeps the history."""
    asked = explanation_pb2.ScoreExplanationRequest(
        parent=PROJECT, request_id="scored", seed=5, budget=dossier_pb2.Budget(max_round_count=1)
    )
    asked.given.feature = f"{world.SAE}/features/0"
    asked.given.explanation.description = "words: red, green, blue"
    for method in ("corpus", "generative"):
        asked.methods.add(method=method, judge="llm").llm.model = "tiny-llm"
    name = (await stack.api.ScoreExplanation(asked)).explanation.name
    ended = await stack.finish(name)
    history = await stack.client.get_workflow_handle(name).fetch_history()
    path = HISTORIES / "score_explanation" / "two_methods.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(history.to_json() + "\n")
    sys.stdout.write(f"{path.name}: {len(history.events)} events, ended in {ended.state}\n")


async def record_build(stack: Stack) -> None:
    """Builds an index of three shards and keeps the history."""
    asked = explanation_pb2.CreateIndexRequest(
        parent=PROJECT, config=activation_pb2.IndexConfig(sae=world.SAE, corpus="corpus.jsonl")
    )
    name = (await stack.api.CreateIndex(asked)).index.name
    handle = stack.client.get_workflow_handle(f"{name}/builds/1")
    await handle.result()
    history = await handle.fetch_history()
    path = HISTORIES / "build_index" / "three_shards.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(history.to_json() + "\n")
    sys.stdout.write(f"{path.name}: {len(history.events)} events\n")


async def main(workflows: list[str]) -> None:
    """Starts what a run needs, records the workflows named, stops everything."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="saexplain-history-") as folder:
        postgres = await embedded_postgres.start(Path(folder) / "data")
        try:
            await asyncio.to_thread(migrate, postgres.url)
            async with (
                await WorkflowEnvironment.start_local(
                    dev_server_existing_path=temporal_binary(),
                    dev_server_startup_timeout=timedelta(seconds=60),
                ) as environment,
                open_stack(
                    environment.client.service_client.config.target_host,
                    postgres.url,
                    Path(folder),
                ) as stack,
                stack.worker(),
            ):
                if "explain_feature" in workflows:
                    for explainer in ("lexical", "sage"):
                        await record(stack, explainer)
                if "score_explanation" in workflows:
                    await record_scoring(stack)
                if "build_index" in workflows:
                    await record_build(stack)
        finally:
            await postgres.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["explain_feature", "score_explanation", "build_index"]))
