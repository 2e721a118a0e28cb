"""The demo itself, on a stack that runs: sweep, compare, choose, explain, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saexplain.activation.v1 import activation_pb2 as activation
from saexplain.activation.v1.activation_pb2_grpc import ActivationServiceStub
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain_client import AsyncSaexplainClient
from services.cli import requests
from services.cli.commands.explain import follow, runs_as_json, worst_code, write_report
from services.cli.commands.index import build
from services.cli.demo.choose import ChosenFeature, choose_features
from services.cli.demo.compare import Comparison, compare_indexes
from services.cli.demo.provider import llm_configured, model_name
from services.cli.exit_codes import ExitCode
from services.cli.follow import ExplainRequest, FollowedRun
from services.cli.output import Output, as_dict
from services.cli.stack.table import API
from services.cli.tables import results_table
from services.common.errors import FailedPrecondition
from services.common.grpc_client import open_channel, rpc_errors

CORPUS = Path(__file__).parents[3] / "demo" / "corpus" / "corpus.jsonl.zst"
"""The corpus that the repository ships."""

_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class DemoOptions:
    """What to show.

    Attributes:
        sae: name of the SAE; empty for the first one of the registry.
        feature_count: features to explain.
        seed: of the choice of features and of the runs.
        rounds: of probes at most. Fewer than a run's own default of 4, so that a newcomer
            waits less; a run that ends for it says so.
        live_document_count: documents of the corpus to sweep now.
        report: where the report goes.
        corpus: the corpus of the shipped index.
    """

    sae: str = ""
    feature_count: int = 8
    seed: int = 0
    rounds: int = 2
    live_document_count: int = 120
    report: Path = Path("report.html")
    corpus: Path = CORPUS


async def run_demo(addresses: dict[str, str], options: DemoOptions, output: Output) -> ExitCode:
    """Runs the demo on a stack; returns 0 if everything was explained and everything agreed.

    Args:
        addresses: name of a service to `host:port`, as `Stack.addresses` gives them.
        options: what to show.
        output: where the results go.

    Raises:
        SaexplainError, SaexplainClientError: a service refused or cannot be reached.
    """
    async with (
        open_channel(addresses["activation"]) as channel,
        AsyncSaexplainClient(addresses[API]) as client,
    ):
        stub: Any = ActivationServiceStub(channel)
        sae = await _sae(stub, options.sae)
        live = await _sweep(client, sae, options, output)
        chosen = await choose_features(stub, sae, options.feature_count, options.seed)
        comparison = await compare_indexes(
            stub, sae, (sae.default_index, live.name), [feature.index for feature in chosen]
        )
        output.note(_in_words(comparison))
        for feature in chosen:
            output.note(f"feature {feature.index}: {feature.kind}")
        runs = await _explain(client, sae, chosen, options, output)
        names = [run.name for run in runs if run.succeeded]
        reported = await write_report(client, names, options.report, output)
    output.result(_document(runs, comparison, live, options), results_table(runs))
    code = worst_code(runs, output)
    if code is ExitCode.OK and not (comparison.agrees and reported):
        return ExitCode.RUN_FAILED
    return code


async def _sae(stub: Any, wanted: str) -> activation.Sae:
    """The SAE with its numerics; it has to have an index."""
    async with rpc_errors():
        name = requests.sae_of(wanted) if wanted else ""
        if not name:
            listed = await stub.ListSaes(
                activation.ListSaesRequest(page_size=1), timeout=_TIMEOUT_SECONDS
            )
            if not listed.saes:
                raise FailedPrecondition("the registry holds no SAE")
            name = listed.saes[0].name
        request = activation.GetSaeRequest(name=name)
        sae: activation.Sae = (await stub.GetSae(request, timeout=_TIMEOUT_SECONDS)).sae
    if not sae.default_index:
        raise FailedPrecondition(f"{name} has no index", "INDEX_NOT_BUILT")
    return sae


async def _sweep(
    client: AsyncSaexplainClient, sae: activation.Sae, options: DemoOptions, output: Output
) -> pb.IndexResource:
    """Sweeps the first documents of the corpus through the public API."""
    config = activation.IndexConfig(
        sae=sae.name,
        corpus=str(options.corpus),
        max_document_count=options.live_document_count,
    )
    index = await build(client, await client.create_index(config), output)
    if index.state != pb.RUN_STATE_SUCCEEDED:
        failure = index.failure
        state = pb.RunState.Name(index.state)
        raise FailedPrecondition(f"the sweep is {state}: {failure.reason} {failure.message}")
    output.note(f"swept {index.done_token_count:,} tokens of {options.corpus.name}")
    return index


async def _explain(
    client: AsyncSaexplainClient,
    sae: activation.Sae,
    chosen: list[ChosenFeature],
    options: DemoOptions,
    output: Output,
) -> list[FollowedRun]:
    asks_llm = llm_configured()
    explainer = "sage" if asks_llm else "lexical"
    model = await model_name() if asks_llm else ""
    whom = f", asking {model}" if model else ""
    output.note(f"explaining {len(chosen)} features with the {explainer} explainer{whom}")
    runs = [FollowedRun(f"{sae.name}/features/{feature.index}") for feature in chosen]
    request = ExplainRequest(
        explainer=requests.explainer_options(explainer, options.seed, model),
        budget=requests.budget_of(options.rounds),
        seed=options.seed,
    )
    await follow(client, runs, request, output)
    return runs


def _in_words(comparison: Comparison) -> str:
    verdict = "agree" if comparison.agrees else "DO NOT AGREE"
    return (
        f"live sweep, shipped index and fresh activations {verdict}: "
        f"{comparison.window_count} windows encoded again ({comparison.value_count:,} values), "
        f"{comparison.shared_count} in both indexes, "
        f"largest difference {comparison.largest_difference:.1e} of the maximum "
        f"(tolerance {comparison.tolerance:.0e}), {comparison.flip_count} flips"
    )


def _document(
    runs: list[FollowedRun], comparison: Comparison, live: pb.IndexResource, options: DemoOptions
) -> dict[str, object]:
    return {
        **runs_as_json(runs),
        "comparison": {
            "agrees": comparison.agrees,
            "windows": comparison.window_count,
            "values": comparison.value_count,
            "shared_windows": comparison.shared_count,
            "largest_difference": comparison.largest_difference,
            "tolerance": comparison.tolerance,
            "flips": comparison.flip_count,
            "beyond_tolerance": comparison.beyond_count,
        },
        "live_index": as_dict(live),
        "report": str(options.report),
    }
