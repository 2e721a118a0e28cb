"""A scorer with two methods: `corpus` judges HELDOUT windows, `generative` writes texts."""

from __future__ import annotations

from typing import Any

from saexplain.common.v1 import score_pb2, usage_pb2, window_pb2
from saexplain.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from services.common.pattern import predict
from services.common.tensors import from_tensor
from tests.fakes.agent_service import usage_of
from tests.fakes.script import Script

_PREDICT = scorer_pb2.JUDGE_TASK_PREDICT


class FakeScorer(scorer_pb2_grpc.ScorerServiceServicer):
    """Reads an explanation as the list of its words."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def ListMethods(self, request: Any, context: Any) -> scorer_pb2.ListMethodsResponse:
        await self.script.enter("ListMethods", request)
        heldout = window_pb2.SPLIT_HELDOUT
        selections = [
            _selection(window_pb2.SPLIT_EXPLAIN, window_pb2.WINDOW_STRATEGY_TOP, 20),
            _selection(heldout, window_pb2.WINDOW_STRATEGY_RANDOM_ACTIVE, 40),
            _selection(heldout, window_pb2.WINDOW_STRATEGY_NON_ACTIVATING, 40),
        ]
        return scorer_pb2.ListMethodsResponse(
            methods=[
                scorer_pb2.Method(
                    name="corpus",
                    version="2",
                    selections=selections,
                    metrics=["f1", "recall"],
                    by_default=True,
                    judges=["pattern", "llm"],
                ),
                scorer_pb2.Method(
                    name="generative",
                    version="1",
                    metrics=["share_active"],
                    writes_texts=True,
                    by_default=True,
                    judges=["pattern", "llm"],
                ),
                scorer_pb2.Method(
                    name="steering",
                    version="1",
                    metrics=["kl"],
                    unavailable_reason="needs intervention on the model",
                ),
            ]
        )

    async def PlanScore(self, request: Any, context: Any) -> scorer_pb2.PlanScoreResponse:
        await self.script.enter("PlanScore", request)
        if request.options.method == "corpus":
            return scorer_pb2.PlanScoreResponse(judge_items=_items(request.windows))
        texts = [
            scorer_pb2.WrittenText(id=f"g{i}", text=f"paper {word} glass", intended_active=True)
            for i, word in enumerate(_words(request.explanation))
        ]
        return scorer_pb2.PlanScoreResponse(texts=texts, usage=_usage(request))

    async def Judge(self, request: Any, context: Any) -> scorer_pb2.JudgeResponse:
        await self.script.enter("Judge", request)
        words = _words(request.explanation)
        predictions = []
        for item in request.items:
            if item.task == scorer_pb2.JUDGE_TASK_VERIFY:
                covered = not set(words).isdisjoint(item.text.split())
                predictions.append(
                    scorer_pb2.Prediction(
                        item_id=item.id,
                        status=scorer_pb2.PREDICTION_STATUS_OK,
                        covered=covered,
                    )
                )
                continue
            if request.options.judge == "pattern":
                shares = predict(request.explanation.pattern, item.tokens, item.left_context)
            else:
                tokens = [bytes(t).decode().strip() for t in item.tokens.token_bytes]
                shares = [float(t in words) for t in tokens]
            predictions.append(
                scorer_pb2.Prediction(
                    item_id=item.id, status=scorer_pb2.PREDICTION_STATUS_OK, shares=shares
                )
            )
        return scorer_pb2.JudgeResponse(predictions=predictions, usage=_usage(request))

    async def Score(self, request: Any, context: Any) -> scorer_pb2.ScoreResponse:
        await self.script.enter("Score", request)
        result = _corpus(request) if request.options.method == "corpus" else _generative(request)
        return scorer_pb2.ScoreResponse(result=result)


def _selection(
    split: window_pb2.Split.ValueType, strategy: window_pb2.WindowStrategy.ValueType, count: int
) -> window_pb2.WindowSelection:
    return window_pb2.WindowSelection(split=split, strategy=strategy, count=count)


def _heldout(lists: Any) -> list[window_pb2.Window]:
    heldout = window_pb2.SPLIT_HELDOUT
    return [w for listed in lists if listed.selection.split == heldout for w in listed.windows]


def _items(lists: Any) -> list[scorer_pb2.JudgeItem]:
    return [
        scorer_pb2.JudgeItem(id=w.name, task=_PREDICT, left_context=w.left_context, tokens=w.tokens)
        for w in _heldout(lists)
    ]


def _words(explanation: Any) -> list[str]:
    words: list[str] = explanation.description.split(": ")[1].split(", ")
    return words


def _usage(request: Any) -> usage_pb2.LlmUsage:
    if request.options.judge != "llm":
        return usage_pb2.LlmUsage()
    return usage_of(request.scope.step, request.options.llm.model)


def _corpus(request: scorer_pb2.ScoreRequest) -> score_pb2.MethodResult:
    reference = request.facts.reference_max
    truth = {w.name: w.max_activation >= 0.5 * reference for w in _heldout(request.windows)}
    says = {
        p.item_id: max(p.shares) >= 0.5
        for p in request.predictions
        if p.status == scorer_pb2.PREDICTION_STATUS_OK
    }
    hits = sum(says[name] and truth[name] for name in says)
    f1 = 2 * hits / (sum(says.values()) + sum(truth[name] for name in says))
    score = score_pb2.Score(
        method="corpus",
        metric="f1",
        value=f1,
        status=score_pb2.SCORE_STATUS_OK,
        positive_count=sum(truth[name] for name in says),
        negative_count=sum(not truth[name] for name in says),
        failed_count=len(truth) - len(says),
        split=window_pb2.SPLIT_HELDOUT,
        judge=request.options.judge,
        seed=request.options.seed,
    )
    if request.HasField("other_feature_pattern"):
        score.baselines.add(name="other_feature", value=0.0)
    return score_pb2.MethodResult(method="corpus", scores=[score])


def _generative(request: scorer_pb2.ScoreRequest) -> score_pb2.MethodResult:
    half = 0.5 * request.facts.reference_max
    active = [float(from_tensor(t.activations).max()) >= half for t in request.encoded_texts]
    score = score_pb2.Score(
        method="generative",
        metric="share_active",
        value=sum(active) / len(active),
        status=score_pb2.SCORE_STATUS_OK,
        positive_count=len(active),
    )
    return score_pb2.MethodResult(method="generative", scores=[score])
