"""The servicer over a real channel: the way of one score, and every refusal with its reason
and field."""

from __future__ import annotations

import pytest

from saexplain.activation.v1.activation_pb2 import WindowList
from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.score_pb2 import SCORE_STATUS_OK, SCORE_STATUS_UNDEFINED
from saexplain.common.v1.window_pb2 import SPLIT_EXPLAIN, SPLIT_SELECT
from saexplain.scorer.v1.scorer_pb2 import (
    JUDGE_TASK_CLASSIFY,
    JUDGE_TASK_CLASSIFY_HIGHLIGHTS,
    JUDGE_TASK_EMBED,
    JUDGE_TASK_PICK,
    JUDGE_TASK_PREDICT,
    JUDGE_TASK_RATE,
    JUDGE_TASK_SELECT,
    JUDGE_TASK_VERIFY,
    JudgeItem,
    JudgePassage,
    JudgeRequest,
    ListMethodsRequest,
    PlanScoreRequest,
    ScoreRequest,
)
from saexplain.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    SaexplainError,
    Unimplemented,
)
from services.common.grpc_client import open_channel, rpc_errors
from services.common.testing import serving
from services.scorer.methods.registry import METHODS
from services.scorer.server import SERVICE, registering
from services.scorer.settings import ScorerSettings
from tests.scorer import world


@pytest.fixture
async def stub():
    settings = ScorerSettings(listen="127.0.0.1:0", max_windows=3000)
    register = registering(settings, None)
    async with (
        serving(register, [SERVICE], settings) as address,
        open_channel(address) as channel,
    ):
        yield ScorerServiceStub(channel)


def plan_request(method: str = "corpus", **option_values) -> PlanScoreRequest:
    request = PlanScoreRequest(
        options=world.options(method),
        explanation=world.explanation(),
        windows=readable(method),
        facts=world.facts(),
    )
    for name, value in option_values.items():
        setattr(request.options, name, value)
    return request


def readable(method: str) -> list[WindowList]:
    """The lists of the world that a method declares."""
    declared = {(s.split, s.strategy) for s in METHODS[method].declaration.selections}
    return [e for e in world.lists() if (e.selection.split, e.selection.strategy) in declared]


async def refusal(call, request) -> SaexplainError:
    with pytest.raises(SaexplainError) as raised:
        async with rpc_errors():
            await call(request)
    return raised.value


@pytest.mark.parametrize(
    "method",
    [
        "autointerp",
        "corpus",
        "detection",
        "fuzzing",
        "generative",
        "input",
        "intruder",
        "predictive",
        "simulation",
    ],
)
async def test_a_method_goes_from_plan_to_score(stub, method):
    """Guards against a step whose answer the next step refuses, over the wire."""
    plan = await stub.PlanScore(plan_request(method))
    predictions = []
    for begin in range(0, len(plan.judge_items), 64):
        chunk = JudgeRequest(
            options=world.options(method),
            explanation=world.explanation(),
            items=plan.judge_items[begin : begin + 64],
        )
        predictions += (await stub.Judge(chunk)).predictions
    response = await stub.Score(
        ScoreRequest(
            options=world.options(method),
            explanation=world.explanation(),
            facts=world.facts(),
            windows=readable(method),
            texts=plan.texts,
            encoded_texts=world.encode(plan.texts),
            predictions=predictions,
        )
    )
    primary = response.result.scores[0]
    assert primary.status == SCORE_STATUS_OK, primary.status_reason
    # These count weak firing too, which the explanation does not name.
    weak_too = {"detection": 0.6, "fuzzing": 0.6, "intruder": 0.4}
    assert primary.value > weak_too.get(method, 0.8)
    assert primary.interval.low <= primary.value <= primary.interval.high
    assert [b.name for b in primary.baselines] == [
        "constant",
        "other_feature",
        "top_token",
        "token_table",
    ]


async def test_methods_are_listed_with_what_they_need(stub):
    """Guards against a method that is known to nobody, and one that cannot run and hides it."""
    methods = {m.name: m for m in (await stub.ListMethods(ListMethodsRequest())).methods}
    assert list(methods) == sorted(methods)
    assert {"corpus", "generative", "input", "predictive"} < set(methods)
    steered, embedded = {"faithfulness", "output", "stability"}, {"embedding", "example_embedding"}
    for name, method in methods.items():
        assert bool(method.unavailable_reason) == (name in steered | embedded)
        declared = name not in steered
        assert bool(method.selections) == bool(method.metrics) == bool(method.judges) == declared
    assert methods["corpus"].metrics[0] == "f1"
    by_default = {name for name, method in methods.items() if method.by_default}
    assert by_default == {"corpus", "generative", "input", "predictive"}


@pytest.mark.parametrize("method", ["embedding", "example_embedding"])
async def test_methods_that_embed_are_refused_without_an_embedding_model(stub, method):
    """Guards against a ranking by something else than embeddings, and an end far into a
    run."""
    request = plan_request(method)
    error = await refusal(stub.PlanScore, request)
    assert error.violations[0].field == "options.judge"
    request.options.judge, request.options.llm.model = "llm", "m"
    error = await refusal(stub.PlanScore, request)
    assert isinstance(error, FailedPrecondition) and error.reason == "LLM_NOT_CONFIGURED"
    assert "SAEXPLAIN_SCORER_EMBEDDING_MODEL" in error.message


async def test_an_unknown_method_is_refused(stub):
    """Guards against INTERNAL for a typo."""
    request = plan_request()
    request.options.method = "corpsu"
    error = await refusal(stub.PlanScore, request)
    assert isinstance(error, InvalidArgument) and error.reason == "METHOD_UNKNOWN"
    assert error.violations[0].field == "options.method"


@pytest.mark.parametrize("method", ["faithfulness", "output", "stability"])
async def test_methods_that_cannot_be_run_are_unimplemented(stub, method):
    """Guards against a score that was never measured."""
    for call, request in (
        (stub.PlanScore, PlanScoreRequest(options=world.options(method))),
        (stub.Score, ScoreRequest(options=world.options(method))),
        (stub.Judge, JudgeRequest(options=world.options(method))),
    ):
        error = await refusal(call, request)
        assert isinstance(error, Unimplemented) and error.reason == "UNSUPPORTED"


async def test_another_version_than_the_plan_froze_is_refused(stub):
    """Guards against a run that changes its estimator half-way."""
    error = await refusal(stub.PlanScore, plan_request(version="0"))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "PLAN_VERSION_UNSUPPORTED"


async def test_a_language_model_that_is_not_set_up_is_a_precondition(stub):
    """Guards against predictions made up for want of a judge."""
    request = JudgeRequest(
        options=world.options("corpus", judge="llm"),
        explanation=world.explanation(),
        items=[JudgeItem(id="a", task=JUDGE_TASK_VERIFY, text="x")],
    )
    request.options.llm.model = "m"
    request.scope.owner, request.scope.step = "projects/default/explanations/e", "score"
    error = await refusal(stub.Judge, request)
    assert isinstance(error, FailedPrecondition) and error.reason == "LLM_NOT_CONFIGURED"


async def test_windows_of_another_split_are_refused(stub):
    """Guards against a leak: HELDOUT windows among those that baselines are fitted on."""
    request = plan_request()
    request.windows[0].windows[2].split = SPLIT_EXPLAIN
    request.windows[-1].windows[1].split = SPLIT_EXPLAIN
    error = await refusal(stub.PlanScore, request)
    assert [v.field for v in error.violations] == [
        f"windows[{len(request.windows) - 1}].windows[1].split"
    ]
    request = plan_request()
    request.windows[0].selection.split = SPLIT_SELECT
    error = await refusal(stub.PlanScore, request)
    assert error.violations[0].field == "windows[0].selection"


def _set(path: str, value):
    def change(request):
        target = request.windows[0].windows[0]
        if path == "activations":
            target.activations[0] = value
        elif path == "drop":
            del target.activations[0]
        else:
            setattr(target, path, value)

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("inclusion_probability", 0.0), "inclusion_probability"),
        (_set("inclusion_probability", float("nan")), "inclusion_probability"),
        (_set("activations", float("inf")), "activations"),
        (_set("activations", -1.0), "activations"),
        (_set("drop", None), "activations"),
        (_set("name", ""), "name"),
        (_set("document", ""), "document"),
    ],
)
async def test_windows_that_cannot_be_weighed_or_read_are_refused(stub, change, field):
    """Guards against NaN and infinities that come in and leave as scores."""
    request = plan_request()
    change(request)
    error = await refusal(stub.PlanScore, request)
    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == f"windows[0].windows[0].{field}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: setattr(r.options, "judge", ""), "options.judge"),
        (lambda r: setattr(r.options, "judge", "llm"), "options.llm.model"),
        (lambda r: r.explanation.ClearField("pattern"), "explanation.pattern"),
        (lambda r: setattr(r.facts, "reference_max", float("nan")), "facts.reference_max"),
        (lambda r: setattr(r.explanation, "label", "x" * 101), "explanation.label"),
        (lambda r: setattr(r.explanation, "description", "x" * 4001), "explanation.description"),
    ],
)
async def test_a_wrong_request_names_its_field(stub, change, field):
    """Guards against a refusal that leaves the caller guessing."""
    request = plan_request()
    change(request)
    error = await refusal(stub.PlanScore, request)
    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == field


async def test_too_many_items_and_windows_are_refused(stub):
    """Guards against unbounded requests."""
    item = JudgeItem(id="a", task=JUDGE_TASK_PREDICT, tokens=world.span([b" a"]))
    request = JudgeRequest(
        options=world.options("corpus"), explanation=world.explanation(), items=[item] * 65
    )
    assert (await refusal(stub.Judge, request)).reason == "TOO_MANY_ITEMS"
    many = plan_request()
    for _ in range(3):
        many.windows.append(many.windows[0])
        many.windows.append(many.windows[1])
    assert (await refusal(stub.PlanScore, many)).reason == "TOO_MANY_ITEMS"


_PASSAGE = JudgePassage(tokens=world.span([b"x"]))


def _tokens(**values) -> JudgeItem:
    values.setdefault("task", JUDGE_TASK_PREDICT)
    return JudgeItem(id="a", tokens=world.span([b"x", b"y"]), **values)


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (JudgeItem(id="a", task=JUDGE_TASK_PREDICT), "items[0].tokens"),
        (JudgeItem(id="a", task=JUDGE_TASK_VERIFY), "items[0].text"),
        (JudgeItem(id="a", task=JUDGE_TASK_EMBED, text="x" * 40_000), "items[0].text"),
        (JudgeItem(id="a", task=JUDGE_TASK_RATE, text="x"), "items[0].tokens"),
        (JudgeItem(id="a", task=JUDGE_TASK_VERIFY, text="x"), "items[0].task"),
        (_tokens(task=JUDGE_TASK_CLASSIFY, highlights=[0]), "items[0].highlights"),
        (_tokens(task=JUDGE_TASK_CLASSIFY_HIGHLIGHTS), "items[0].highlights"),
        (_tokens(task=JUDGE_TASK_CLASSIFY_HIGHLIGHTS, highlights=[2]), "items[0].highlights"),
        (_tokens(task=JUDGE_TASK_CLASSIFY_HIGHLIGHTS, highlights=[1, 0]), "items[0].highlights"),
        (_tokens(left_context=world.span([b"x"]), context_position=0), "items[0].context_position"),
        (JudgeItem(id="a", task=JUDGE_TASK_PICK, passages=[_PASSAGE]), "items[0].passages"),
        (
            JudgeItem(id="a", task=JUDGE_TASK_SELECT, passages=[_PASSAGE, JudgePassage()]),
            "items[0].passages[1].tokens",
        ),
        (JudgeItem(id="a", task=JUDGE_TASK_VERIFY, text="x"), "items[0].task"),
        (JudgeItem(id="a"), "items[0].task"),
        (JudgeItem(task=JUDGE_TASK_PREDICT, tokens=world.span([b"x"])), "items[0].id"),
    ],
)
async def test_an_item_that_cannot_be_judged_is_refused(stub, item, field):
    """Guards against a pattern judge that guesses at texts it has no tokens of."""
    request = JudgeRequest(
        options=world.options("corpus"), explanation=world.explanation(), items=[item]
    )
    assert (await refusal(stub.Judge, request)).violations[0].field == field


async def test_without_an_explanation_every_metric_is_undefined_and_says_why(stub):
    """Guards against a zero for a feature that nobody explained."""
    request = plan_request()
    request.explanation.CopyFrom(Explanation())
    assert not (await stub.PlanScore(request)).judge_items
    score = ScoreRequest(options=request.options, facts=request.facts, windows=request.windows)
    for entry in (await stub.Score(score)).result.scores:
        assert entry.status == SCORE_STATUS_UNDEFINED and not entry.HasField("value")
        assert entry.status_reason == "there is no explanation to score"
