"""Creates the runs of a comparison through the public API and reads their dossiers.

A run's request id is made of all that it asks for, so that a comparison that was broken off,
or is made again, finds its runs instead of paying for them twice; `again` makes new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.explanation.v1 import explanation_pb2 as pb
from saexplain.explanation.v1.dossier_pb2 import Budget
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from saexplain_client import AsyncSaexplainClient, SaexplainClientError
from services.cli import imports, requests
from services.cli.comparison.rows import Row, row_of
from services.cli.follow import ExplainRequest, FollowedRun, explain_all
from services.common.canonical import digest
from services.common.errors import InvalidArgument

_DIGITS = 32


@dataclass(frozen=True)
class Asked:
    """What every run of a comparison has in common.

    Attributes:
        methods: comma-separated; empty for those that run by default.
        judge: `pattern` or `llm` for all; empty for each explainer's own.
        model: of explainers and judges; empty for the services' own.
        seed: of every random choice.
        index: empty for the SAE's default.
        rounds: of probes at most; None for the explainer's own.
        again: another one makes new runs; empty finds earlier ones.
        at_once: runs in flight.
    """

    methods: str = ""
    judge: str = ""
    model: str = ""
    seed: int = 0
    index: str = ""
    rounds: int | None = None
    again: str = ""
    at_once: int = 8


@dataclass(frozen=True)
class Candidate:
    """An explainer of a comparison: one of ours by name, or a file, `import:path`.

    Attributes:
        name: how it is called in tables.
        explainer: its name for the API.
        given: explanations of a file by feature; None for ours.
    """

    name: str
    explainer: str
    given: Mapping[str, Explanation] | None = None


def candidates(text: str, sae: str) -> list[Candidate]:
    """The explainers of a comma-separated list.

    Raises:
        InvalidArgument: none, one twice, or a file that is not fit.
    """
    found = [_candidate(item.strip(), sae) for item in text.split(",") if item.strip()]
    names = [candidate.name for candidate in found]
    if not names or len(set(names)) < len(names):
        raise InvalidArgument("names explainers, each once", "--explainers")
    return found


def _candidate(item: str, sae: str) -> Candidate:
    kind, colon, path = item.partition(":")
    if not colon:
        return Candidate(item, item)
    if kind != imports.EXPLAINER:
        raise InvalidArgument(
            f"{item!r}: only {imports.EXPLAINER}: is followed by a file", "--explainers"
        )
    given: dict[str, Explanation] = {}
    for entry in imports.read(Path(path), "--explainers"):
        # The first of several: a file ranks what it lists.
        given.setdefault(imports.feature_of(entry, sae), entry.explanation)
    return Candidate(Path(path).name, imports.EXPLAINER, given)


async def all_rows(
    client: AsyncSaexplainClient,
    found: Sequence[Candidate],
    features: Sequence[str],
    asked: Asked,
    strata: Mapping[str, str],
    ended: Callable[[Row], None],
) -> list[Row]:
    """Runs every explainer on every feature, a few at a time, and reads what came out.

    Args:
        strata: stratum of each feature, as far as it is known.
        ended: called with each row as it is there.
    """
    gate = asyncio.Semaphore(asked.at_once)

    async def one(candidate: Candidate, feature: str) -> Row:
        async with gate:
            row = await _row(client, candidate, feature, asked, strata.get(feature, ""))
        ended(row)
        return row

    # Feature by feature: a comparison that is broken off has whole pairs.
    return list(await asyncio.gather(*(one(c, f) for f in features for c in found)))


async def _row(
    client: AsyncSaexplainClient, candidate: Candidate, feature: str, asked: Asked, stratum: str
) -> Row:
    if candidate.given is not None and feature not in candidate.given:
        reason = "NOT_IN_FILE: the file does not explain it"
        return Row(candidate.name, feature, "", stratum, "refused", reason)
    run = FollowedRun(feature)
    await explain_all(client, [run], _request(candidate, feature, asked), lambda _: None)
    if run.error is not None and run.error.status == "UNAVAILABLE":
        # No feature's fault, and no answer: a comparison without it would be another one.
        raise run.error
    try:
        bundle = await client.get_dossier(run.name) if run.succeeded else None
    except SaexplainClientError as error:
        run.error, bundle = error, None
    return row_of(candidate.name, run, bundle, stratum)


def _request(candidate: Candidate, feature: str, asked: Asked) -> ExplainRequest:
    explainer = requests.explainer_options(candidate.explainer, asked.seed, asked.model)
    if candidate.given is not None:
        explainer.ClearField("llm")
        explainer.given_explanation.CopyFrom(candidate.given[feature])
    methods = requests.method_options(
        asked.methods,
        has_pattern=requests.predicts_by_itself(candidate.explainer)
        or explainer.given_explanation.HasField("pattern"),
        seed=asked.seed,
        model=asked.model,
        judge=asked.judge,
    )
    budget = requests.budget_of(asked.rounds)
    return ExplainRequest(
        explainer=explainer,
        methods=methods,
        budget=budget,
        index=asked.index,
        seed=asked.seed,
        request_id=_request_id(feature, explainer, methods, budget, asked),
    )


def _request_id(
    feature: str,
    explainer: ExplainerOptions,
    methods: Sequence[MethodOptions],
    budget: Budget | None,
    asked: Asked,
) -> str:
    """The same for the same run, whatever comparison it is part of."""
    content = pb.CreateExplanationRequest(
        request_id=asked.again,
        feature=feature,
        explainer=explainer,
        methods=methods,
        budget=budget,
        index=asked.index,
        seed=asked.seed,
    )
    return f"compare-{digest(content)[:_DIGITS]}"
