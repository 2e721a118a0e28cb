"""Every path of the loop, on features whose words are known: the real agent with scripted
models, the real workflow, and a world in which what a word does is written down. The
load-bearing column is what each row expects of verdicts that code gave: a model that claims
wrongly is refuted whatever it says.

All runs are made side by side, once; a row per path is asserted on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import experiment_pb2, explanation_pb2
from saexplain.explanation.v1 import dossier_pb2
from saexplain.explanation.v1 import explanation_pb2 as pb
from services.agent.server import AgentServicer, explainers
from services.common.database import create_engine
from services.common.embedded_postgres import EmbeddedPostgres
from services.common.llm.prices import Price, PriceList
from services.orchestrator.store.migrate import migrate
from tests.fakes import language_model
from tests.fakes.openai_server import FakeOpenAi
from tests.orchestrator.scripted_models import COLOURS, Model, responder
from tests.orchestrator.stack import open_stack, request

NOT_A_COLOUR = ("river",)
HALF = ("red", "green", "river")
"""Two of three words fire: no verdict ever falls."""


@dataclass(frozen=True)
class Case:
    """A path and what must come of it.

    Attributes:
        statuses: of the hypotheses in the end, in order.
        operations: of all revisions, in order.
        status: of the explanation.
        stop: why the loop ended.
        saw: an outcome that a probe must have had, or `absorbed`.
    """

    model: Model = field(default_factory=Model)
    explainer: str = "sage"
    feature: int = 0
    rounds: int = 3
    probes: int = 0
    tokens: int = 0
    cost: float = 0.0
    given: explanation_pb2.Explanation | None = None
    statuses: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    status: str = "EXPLAINED"
    stop: str = "DECIDED"
    partial: bool = False
    saw: str = ""
    rounds_run: int | None = None
    candidates: int | None = None


S, R, J, P = "SUPPORTED", "REFUTED", "REJECTED", "SUPERSEDED"
PATHS: dict[str, Case] = {
    "supported": Case(statuses=(S,), rounds_run=1, saw="ACTIVE"),
    "refuted": Case(
        Model(claims=[NOT_A_COLOUR]), statuses=(R,), status="NO_EXPLANATION", stop="NO_PROGRESS"
    ),
    "open_to_the_end": Case(
        Model(claims=[HALF]), statuses=("OPEN",), stop="ROUNDS_SPENT", partial=True, rounds_run=3
    ),
    "refined": Case(
        Model(claims=[NOT_A_COLOUR], revisions=[[("refine", ["h1"], [COLOURS])]]),
        statuses=(S,),
        operations=("REFINE",),
    ),
    "split": Case(
        Model(
            claims=[HALF],
            revisions=[[("split", ["h1"], [("red", "green"), ("blue", "yellow")])]],
            claimed=COLOURS,
        ),
        statuses=(P, S, S),
        operations=("SPLIT",),
    ),
    "merged": Case(
        Model(
            claims=[HALF, ("blue", "yellow", "river")],
            revisions=[[("merge", ["h1", "h2"], [COLOURS])]],
        ),
        statuses=(P, P, S),
        operations=("MERGE",),
    ),
    "added": Case(
        Model(claims=[("red",)], revisions=[[("add", [], [("green", "blue", "yellow")])]]),
        statuses=(S, S),
        operations=("ADD",),
        candidates=2,
    ),
    "rejected": Case(
        Model(
            claims=[NOT_A_COLOUR, HALF],
            revisions=[[("reject", ["h1"], []), ("refine", ["h2"], [COLOURS])]],
        ),
        statuses=(J, S),
        operations=("REJECT", "REFINE"),
    ),
    "absorbed": Case(
        Model(claims=[("run",)]),
        statuses=(R,),
        status="NO_EXPLANATION",
        stop="NO_PROGRESS",
        saw="absorbed",
    ),
    "ambiguous": Case(
        Model(claims=[("amber",)]),
        rounds=1,
        statuses=("OPEN",),
        stop="ROUNDS_SPENT",
        partial=True,
        saw="AMBIGUOUS",
    ),
    "weak_counts_against": Case(
        Model(claims=[("ochre",)]),
        statuses=(R,),
        status="NO_EXPLANATION",
        stop="NO_PROGRESS",
        saw="WEAK",
    ),
    "no_progress": Case(
        Model(claims=[("amber",)], negative="amber"),
        statuses=("OPEN",),
        stop="NO_PROGRESS",
        rounds_run=1,
    ),
    "only_repeats": Case(
        Model(claims=[HALF], repeats=True), statuses=("OPEN",), stop="NO_PROGRESS", rounds_run=1
    ),
    "rounds_spent": Case(
        Model(claims=[HALF]), rounds=1, statuses=("OPEN",), stop="ROUNDS_SPENT", partial=True
    ),
    "probes_spent": Case(
        Model(claims=[HALF]), probes=12, statuses=("OPEN",), stop="PROBES_SPENT", partial=True
    ),
    "tokens_spent": Case(
        Model(claims=[HALF]),
        rounds=14,
        tokens=20_000,
        statuses=("OPEN",),
        stop="LLM_TOKENS_SPENT",
        partial=True,
    ),
    "tokens_spent_before_anything": Case(
        tokens=1, status="NO_EXPLANATION", stop="LLM_TOKENS_SPENT", partial=True
    ),
    "cost_spent": Case(
        Model(claims=[HALF]),
        rounds=14,
        cost=2.0,
        statuses=("OPEN",),
        stop="COST_SPENT",
        partial=True,
    ),
    "no_hypothesis": Case(
        Model(claims=()), status="NO_EXPLANATION", stop="NO_HYPOTHESIS", candidates=0
    ),
    "no_explanation_by_the_model": Case(
        Model(outcome="no_explanation"), statuses=(S,), status="NO_EXPLANATION"
    ),
    "no_evidence": Case(feature=3, status="NO_EVIDENCE", stop="NO_HYPOTHESIS"),
    "positional": Case(
        Model(kind="positional", outcome="positional"), statuses=(S,), status="POSITIONAL"
    ),
    "paper_confirms": Case(explainer="paper", statuses=(S,), rounds_run=2),
    "paper_refutes": Case(
        Model(claims=[NOT_A_COLOUR]),
        explainer="paper",
        statuses=(R,),
        status="NO_EXPLANATION",
        rounds_run=2,
    ),
    "paper_confirms_what_code_would_refute": Case(
        Model(claims=[NOT_A_COLOUR], verdict="confirmed"),
        explainer="paper",
        statuses=(S,),
        rounds_run=2,
    ),
    "paper_reviews_and_goes_on": Case(
        Model(review=["h1"]), explainer="paper", statuses=(S,), rounds_run=3
    ),
    "one_shot": Case(explainer="one_shot", stop="NO_HYPOTHESIS", rounds_run=0, candidates=1),
    "best_of_n": Case(explainer="best_of_n", stop="NO_HYPOTHESIS", rounds_run=0),
    "random_probe": Case(
        Model(claims=[NOT_A_COLOUR], revisions=[[("refine", ["h1"], [COLOURS])]]),
        explainer="random_probe",
        rounds=1,
        statuses=("OPEN",),
        operations=("REFINE",),
        stop="ROUNDS_SPENT",
        partial=True,
        rounds_run=1,
    ),
    "import": Case(
        explainer="import",
        given=explanation_pb2.Explanation(label="words: red"),
        stop="NO_HYPOTHESIS",
        rounds_run=0,
        candidates=1,
    ),
}
TWICE = ("added", "paper_reviews_and_goes_on", "one_shot", "best_of_n", "random_probe", "import")
"""A path of every explainer: each is run again as a run of its own."""

PRICES = PriceList(
    currency_code="USD",
    hosts={"127.0.0.1": {"cost_spent": Price(input=100, cached_input=100, output=100)}},
)


@pytest.fixture(scope="module")
def ended(
    temporal_address: str, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pb.DossierBundle]:
    """All paths run side by side."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_paths")
    url = postgres.url.replace("/postgres?", "/test_paths?", 1)
    migrate(url)
    return asyncio.run(_run_all(temporal_address, url, tmp_path_factory.mktemp("paths")))


async def _run_all(
    temporal_address: str, database_url: str, folder: Path
) -> dict[str, pb.DossierBundle]:
    engine = create_engine(database_url)
    models = {name: path.model for name, path in PATHS.items()}
    async with FakeOpenAi({"*": responder(models)}) as fake:
        model = language_model.connect(engine, fake.base_url, prices=PRICES)
        agent = AgentServicer(explainers(model))
        async with (
            open_stack(temporal_address, database_url, folder, agent) as stack,
            stack.worker(),
        ):
            runs = {name: await stack.create(_request(name, c)) for name, c in PATHS.items()}
            for name in TWICE:
                again = _request(name, PATHS[name])
                again.request_id += "-again"
                runs[f"{name} again"] = await stack.create(again)
            for run in runs.values():
                done = await stack.finish(run.name)
                assert done.state == pb.RUN_STATE_SUCCEEDED, (run.name, done.failure)
            found = {name: await stack.bundle(run.name) for name, run in runs.items()}
        await model.aclose()
    await engine.dispose()
    return found


def _request(name: str, path: Case) -> pb.CreateExplanationRequest:
    made = request(f"path-{name}", feature_index=path.feature, explainer_name=path.explainer)
    if path.explainer != "import":
        made.explainer.llm.model = name
    if path.explainer in ("sage", "paper", "random_probe"):
        made.explainer.hypothesis_count = max(1, len(path.model.claims))
    made.methods.add(method="generative", judge="llm").llm.model = "judge"
    made.budget.max_round_count = path.rounds if path.explainer != "paper" else 0
    made.budget.max_probe_count = path.probes
    made.budget.max_llm_token_count = path.tokens
    if path.cost:
        made.budget.max_cost = path.cost
    if path.given is not None:
        made.explainer.given_explanation.CopyFrom(path.given)
    return made


@pytest.mark.parametrize("name", PATHS)
def test_a_path_ends_as_it_must(ended: dict[str, pb.DossierBundle], name: str) -> None:
    path, dossier = PATHS[name], ended[name].dossier
    assert _told(dossier) == (path.status, path.stop, path.partial)
    assert tuple(_name(h.status, "HYPOTHESIS_STATUS_") for h in dossier.hypotheses) == path.statuses
    done = [op for entry in dossier.rounds for op in entry.operations]
    kinds = (agent_pb2.RevisionKind.Name(op.kind).removeprefix("REVISION_KIND_") for op in done)
    assert tuple(kinds) == path.operations
    if path.rounds_run is not None:
        assert len(dossier.rounds) == path.rounds_run
    if path.candidates is not None:
        assert len(dossier.candidates) == path.candidates
    if path.saw:
        assert path.saw in _outcomes(dossier)


def test_verdicts_of_an_explainer_stand_beside_the_posteriors(
    ended: dict[str, pb.DossierBundle],
) -> None:
    """Guards against a verdict of a model that replaces what was measured."""
    dossier = ended["paper_confirms_what_code_would_refute"].dossier
    last = dossier.rounds[-1]
    assert last.explainer_verdicts[0].status == experiment_pb2.HYPOTHESIS_STATUS_SUPPORTED
    assert last.hypotheses[0].tally.positive_passed_count == 0
    assert not any(
        result.passed
        for r in dossier.rounds
        for result in r.results
        if result.probe.predicted_active
    )
    assert not any(r.explainer_verdicts for r in ended["supported"].dossier.rounds)


@pytest.mark.parametrize("name", TWICE)
def test_the_same_plan_and_replies_give_the_same_dossier(
    ended: dict[str, pb.DossierBundle], name: str
) -> None:
    """Byte for byte, whatever ran beside it: every explainer. Guards against an order, an id
    or a time of a run that finds its way into a dossier."""
    one, two = ended[name].dossier, ended[f"{name} again"].dossier
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    assert one.digest == two.digest != ended["supported"].dossier.digest


def test_best_of_n_writes_as_many_as_the_loops_tokens_buy(
    ended: dict[str, pb.DossierBundle],
) -> None:
    """Guards against a control that gets less than what it controls for, or more."""
    bundle = ended["best_of_n"]
    assert 2 <= len(bundle.dossier.candidates) <= 12
    spent = sum(
        call.prompt_token_count + call.completion_token_count
        for call in bundle.run.usage.calls
        if call.step == "synthesize"
    )
    assert spent <= bundle.dossier.plan.loop.candidate_token_count


def _told(dossier: dossier_pb2.Dossier) -> tuple[str, str, bool]:
    status = explanation_pb2.ExplanationStatus.Name(dossier.explanation.status)
    stop = dossier_pb2.StopReason.Name(dossier.stop_reason)
    return (
        status.removeprefix("EXPLANATION_STATUS_"),
        stop.removeprefix("STOP_REASON_"),
        dossier.partial,
    )


def _name(status: experiment_pb2.HypothesisStatus.ValueType, prefix: str) -> str:
    return experiment_pb2.HypothesisStatus.Name(status).removeprefix(prefix)


def _outcomes(dossier: dossier_pb2.Dossier) -> set[str]:
    found: set[str] = set()
    for entry in dossier.rounds:
        for result in entry.results:
            name = experiment_pb2.ProbeOutcome.Name(result.outcome)
            found.add(name.removeprefix("PROBE_OUTCOME_"))
            found |= {"absorbed"} if result.absorbed_by else set()
    return found
