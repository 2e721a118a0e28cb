"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.message import Message
from rich.table import Table
from rich.text import Text

from saexplain.common.v1.score_pb2 import Score
from saexplain.explanation.v1 import explanation_pb2 as pb
from services.cli.follow import FollowedRun
from services.cli.live import usage_text
from services.cli.report.formats import MISSING, enum_name, moment, number, optional
from services.cli.report.score_strip import baseline_cells
from services.cli.visible import plain

_PRIMARY = (("corpus", "f1", "F1"), ("corpus", "pearson", "Pearson"))


def results_table(runs: Sequence[FollowedRun]) -> Table:
    """A row per run: status, label, corpus F1 and Pearson with interval and gap closed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("feature", "status", "label"):
        table.add_column(title, no_wrap=title != "label")
    for _, _, title in _PRIMARY:
        table.add_column(title, justify="right", no_wrap=True)
        table.add_column("gap", justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*_result_cells(run))
    return table


def explanation_table(explanations: Iterable[pb.ExplanationResource]) -> Table:
    """A row per explanation, for `saexplain list`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "feature", "state", "label", "F1", "created"):
        table.add_column(title, no_wrap=title not in {"label", "created"}, overflow="fold")
    for explanation in explanations:
        score = find_score(explanation.scores, "corpus", "f1")
        table.add_row(
            explanation.name,
            explanation.feature,
            enum_name(explanation, "state"),
            plain(explanation.explanation.label or MISSING),
            score_cell(score),
            moment(explanation.create_time),
        )
    return table


def score_table(scores: Sequence[Score]) -> Table:
    """A row per score, with its baselines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", no_wrap=True)
    for title in ("value", "constant", "other", "top token", "table", "gap", "+/−/failed/invalid"):
        table.add_column(title, justify="right", no_wrap=True)
    for score in scores:
        baselines = [number(value) for _, value, _ in baseline_cells(score)[:4]]
        counts = (
            score.positive_count,
            score.negative_count,
            score.failed_count,
            score.invalid_count,
        )
        marks = (" *" if score.insensitive else "") + (" †" if score.writer_is_explainer else "")
        name = f"{score.method} {score.metric}{marks}"
        value = score_cell(score) if score.HasField("value") else enum_name(score, "status")
        gap = number(optional(score, "gap_closed"))
        table.add_row(name, value, *baselines, gap, "/".join(map(str, counts)))
    table.caption, table.caption_justify = _legend(scores), "left"
    return table


def _legend(scores: Iterable[Score]) -> str | None:
    """What the marks of a score table mean; None where there are none."""
    scores = list(scores)
    lines = []
    if any(score.insensitive for score in scores):
        lines.append("* does not fall when half is missing or an unrelated part is added")
    if any(score.writer_is_explainer for score in scores):
        lines.append("† texts written by the model that explained")
    return "\n".join(lines) or None


def facts_table(explanation: pb.ExplanationResource) -> Table:
    """What there is to say about one explanation besides its scores."""
    found = explanation.explanation
    tokens, cost = usage_text(explanation.usage)
    rows = [
        ("feature", explanation.feature),
        ("state", _in_words(explanation, "state", partial=explanation.partial)),
        ("status", enum_name(found, "status") if explanation.HasField("explanation") else MISSING),
        ("label", found.label or MISSING),
        ("description", found.description or MISSING),
        ("ended", enum_name(explanation, "stop_reason") if explanation.stop_reason else MISSING),
        ("tokens, cost", f"{tokens}, {cost}"),
        ("created", moment(explanation.create_time)),
        ("dossier", explanation.dossier_digest or MISSING),
    ]
    if explanation.HasField("failure"):
        failure = explanation.failure
        rows.append(("failure", f"{failure.reason} in {failure.step}: {failure.message}"))
    if explanation.scores_only:
        rows.append(("scores of", explanation.scored_explanation or "one from elsewhere"))
    if found.status_detail:
        rows.append(("detail", found.status_detail))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, value in rows:
        table.add_row(title, plain(value))
    return table


def index_table(indexes: Iterable[pb.IndexResource]) -> Table:
    """A row per index."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "SAE", "state", "corpus"):
        table.add_column(title, no_wrap=title in {"name", "state"}, overflow="fold")
    for title in ("tokens", "documents", "eligible", "dead"):
        table.add_column(title, justify="right", no_wrap=True)
    for index in indexes:
        summary = index.summary
        counts = (
            (summary.document_count, summary.eligible_feature_count, summary.dead_feature_count)
            if index.HasField("summary")
            else (MISSING, MISSING, MISSING)
        )
        total = index.total_token_count
        tokens = f"{index.done_token_count:,}" + (f" of {total:,}" if total else "")
        table.add_row(
            index.name,
            index.config.sae,
            enum_name(index, "state"),
            plain(index.config.corpus),
            tokens,
            *(c if isinstance(c, str) else f"{c:,}" for c in counts),
        )
    return table


def find_score(scores: Iterable[Score], method: str, metric: str) -> Score | None:
    """The score with this method and metric; None where there is none."""
    return next((s for s in scores if (s.method, s.metric) == (method, metric)), None)


def score_cell(score: Score | None) -> str:
    """Value and interval; `–` without a value."""
    if score is None or not score.HasField("value"):
        return MISSING
    if not score.HasField("interval"):
        return number(score.value)
    return f"{number(score.value)} [{number(score.interval.low)}, {number(score.interval.high)}]"


def _result_cells(run: FollowedRun) -> list[Text]:
    feature = plain(run.feature.rpartition("/")[2])
    if run.error is not None:
        reason = run.error.reason or run.error.status
        return [feature, plain(reason, style="red"), plain(run.error.message)]
    if run.result is None:
        return [feature, plain("unfinished", style="yellow"), plain("")]
    if not run.succeeded:
        failure = run.result.failure
        state = failure.reason or enum_name(run.result, "state")
        return [feature, plain(state, style="red"), plain(failure.message)]
    found = run.result.explanation
    cells = [
        feature,
        plain(_in_words(found, "status", partial=run.result.partial)),
        plain(found.label),
    ]
    for method, metric, _ in _PRIMARY:
        score = find_score(run.result.scores, method, metric)
        gap = optional(score, "gap_closed") if score is not None else None
        cells += [plain(score_cell(score)), plain(number(gap))]
    return cells


def _in_words(message: Message, field: str, *, partial: bool) -> str:
    return enum_name(message, field) + (", partial" if partial else "")
