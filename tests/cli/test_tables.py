"""What a table of scores says beside the numbers."""

from __future__ import annotations

import io

from rich.console import Console

from saexplain.common.v1.score_pb2 import SCORE_STATUS_OK, Score
from services.cli.tables import score_table


def shown(*scores: Score) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(score_table(scores))
    return console.export_text()


def score(metric: str, **values) -> Score:
    return Score(method="m", metric=metric, value=0.5, status=SCORE_STATUS_OK, **values)


def test_marks_stand_at_the_score_and_are_explained_below() -> None:
    """Guards against a flag that is computed and shown to nobody."""
    text = shown(score("plain"), score("soft", insensitive=True))
    assert "m soft *" in text and "m plain *" not in text
    assert "does not fall" in text and "†" not in text
    own = shown(score("own", writer_is_explainer=True), score("other", writer_is_explainer=False))
    assert "m own †" in own and "m other †" not in own
    assert "by the model that explained" in own
    assert "does not fall" not in shown(score("plain"))
