"""Any scoring method in this process, with the deterministic writer and judge: plan, measure,
judge and score, as the workflow does it over RPC."""

from __future__ import annotations

from benchmarks.lexical_sources import Source
from saexplain.common.v1 import explanation_pb2, feature_pb2, score_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.scorer.judges.pattern import PatternJudge
from services.scorer.judges.pattern_writer import PatternWriter
from services.scorer.methods.base import PATTERN_JUDGE
from services.scorer.methods.registry import METHODS

Values = dict[str, dict[str, float | None]]
"""By metric: the explanation's value as `lexical`, and the baselines'; None where undefined."""


def deterministic_methods() -> list[str]:
    """Methods that need no language model, the primary one first."""
    able = [n for n, m in METHODS.items() if PATTERN_JUDGE in m.declaration.judges]
    return sorted(able, key=lambda name: (name != "corpus", name))


async def score(
    source: Source,
    feature: int,
    facts: feature_pb2.FeatureFacts,
    explanation: explanation_pb2.Explanation,
    method: str,
    seed: int,
) -> Values:
    """All metrics of one method for one explanation with a pattern."""
    scorer = METHODS[method]
    options = scorer_pb2.MethodOptions(method=method, judge=PATTERN_JUDGE, seed=seed)
    windows = await source.windows(feature, scorer.declaration.selections, seed)
    plan = await scorer.plan(
        scorer_pb2.PlanScoreRequest(
            options=options, explanation=explanation, windows=windows, facts=facts
        ),
        PatternWriter(),
    )
    request = scorer_pb2.ScoreRequest(
        options=options, explanation=explanation, facts=facts, windows=windows, texts=plan.texts
    )
    if plan.texts:
        request.encoded_texts.extend(await source.encode(feature, [t.text for t in plan.texts]))
    if plan.judge_items:
        asked = scorer_pb2.JudgeRequest(
            options=options, explanation=explanation, items=plan.judge_items
        )
        predictions, _ = await PatternJudge().judge(asked)
        request.predictions.extend(predictions)
    return {s.metric: _values(s) for s in scorer.score(request).scores}


def _values(scored: score_pb2.Score) -> dict[str, float | None]:
    values = {b.name: b.value if b.HasField("value") else None for b in scored.baselines}
    values["lexical"] = scored.value if scored.HasField("value") else None
    return values
