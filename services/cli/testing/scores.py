"""Scores of a made explanation."""

from __future__ import annotations

from saexplain.common.v1 import score_pb2 as score_pb
from saexplain.common.v1 import window_pb2 as window_pb
from services.cli.testing.sketch import Parts


class ScoreParts(Parts):
    """What the scorer would say."""

    def _results(self) -> list[score_pb.MethodResult]:
        corpus = [
            self._score("corpus", "f1", 0.74, (0.0, 0.02, 0.35, 0.71)),
            self._score("corpus", "pearson", 0.69, (None, 0.01, 0.31, 0.73)),
            self._score("corpus", "recall", 0.83, (1.0, 0.04, 0.24, 0.8), insensitive=True),
        ]
        generative = self._score("generative", "share_active", 0.9, (None, None, None, None))
        generative.split = window_pb.SPLIT_UNSPECIFIED
        generative.invalid_count = 2
        undefined = score_pb.Score(
            method="predictive",
            metric="pearson_mean",
            status=score_pb.SCORE_STATUS_UNDEFINED,
            status_reason="fewer than three HELDOUT exemplars" + self._hostile,
            estimator_version="1",
            judge="pattern",
        )
        rows = [
            score_pb.ScoreRow(
                item=f"g{i}", predicted=0.8, measured=0.7, weight=1.0, text="x" + self._hostile
            )
            for i in range(3)
        ]
        return [
            score_pb.MethodResult(method="corpus", scores=corpus),
            score_pb.MethodResult(method="generative", scores=[generative], rows=rows),
            score_pb.MethodResult(method="predictive", scores=[undefined]),
        ]

    def _score(
        self,
        method: str,
        metric: str,
        value: float,
        baselines: tuple[float | None, ...],
        *,
        insensitive: bool = False,
    ) -> score_pb.Score:
        names = ("constant", "other_feature", "top_token", "token_table")
        score = score_pb.Score(
            method=method,
            metric=metric,
            value=value,
            interval=score_pb.Interval(
                low=value - 0.06, high=value + 0.05, level=0.95, kind="bootstrap_document"
            ),
            positive_count=109,
            negative_count=600,
            failed_count=3,
            status=score_pb.SCORE_STATUS_OK,
            estimator_version="1",
            judge="pattern" if self._explainer == "lexical" else "gpt-5-mini",
            seed=11,
            split=window_pb.SPLIT_HELDOUT,
            insensitive=insensitive,
            baselines=[
                score_pb.Baseline(
                    name=name,
                    value=number,
                    undefined_reason="" if number is not None else "no variance",
                )
                for name, number in zip(names, baselines, strict=True)
            ],
        )
        top, table = baselines[2], baselines[3]
        if top is not None and table is not None:
            score.gap_closed = (value - top) / (table - top)
        return score
