"""Puts dossiers into the template. All values are escaped; the page asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import jinja2
from markupsafe import Markup

from saexplain.common.v1.experiment_pb2 import ProbeResult
from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.score_pb2 import Score
from saexplain.explanation.v1.dossier_pb2 import Dossier
from saexplain.explanation.v1.explanation_pb2 import DossierBundle
from services.cli.report import formats, heat, histogram, score_strip
from services.cli.visible import visible_bytes, visible_text
from services.common.pattern import describe

PRIMARY_METRICS = (("corpus", "f1"), ("corpus", "pearson"))
"""The scores that stand in the overview: method and metric."""


def render_report(bundles: Sequence[DossierBundle], *, created: datetime, title: str = "") -> str:
    """The report of a run as one HTML document.

    Args:
        bundles: the dossiers, in the order of the report. At least one.
        created: shown as the time of writing.
        title: heading; made from the SAE where empty.

    Raises:
        ValueError: there is nothing to report.
    """
    if not bundles:
        raise ValueError("a report needs at least one dossier")
    environment = _environment()
    load = environment.loader
    assert load is not None
    script = load.get_source(environment, "script.js")[0].strip()
    style = load.get_source(environment, "style.css")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sae = bundles[0].dossier.plan.sae
    return environment.get_template("page.html.j2").render(
        title=title or f"Features of {sae.name}",
        bundles=bundles,
        sae=sae,
        created=created.strftime("%Y-%m-%d %H:%M"),
        # Our own files, not data: these two alone are not escaped.
        script=Markup(script),
        style=Markup(style),
        script_digest=digest,
    )


def primary_score(dossier: Dossier, method: str, metric: str) -> Score | None:
    """The score of a dossier with this method and metric; None where there is none."""
    for result in dossier.results:
        for score in result.scores:
            if (score.method, score.metric) == (method, metric):
                return score
    return None


def results_by_hypothesis(dossier: Dossier) -> dict[str, list[ProbeResult]]:
    """All probe results of all rounds, oldest first, under the hypothesis they tested."""
    found: dict[str, list[ProbeResult]] = defaultdict(list)
    for played in dossier.rounds:
        for result in played.results:
            found[result.probe.hypothesis_id].append(result)
    return dict(found)


def models_used(bundle: DossierBundle) -> list[str]:
    """Names of the language models that were asked, in the order of first use."""
    return list(dict.fromkeys(call.model for call in bundle.run.usage.calls))


def pattern_text(explanation: Explanation) -> str:
    """The explanation's pattern in words; empty where it has none."""
    return describe(explanation.pattern) if explanation.HasField("pattern") else ""


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("services.cli.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=formats.number,
        significant=formats.significant,
        percent=formats.percent,
        count=formats.count,
        moment=formats.moment,
        enum=formats.enum_name,
        optional=formats.optional,
        visible=visible_text,
        visible_bytes=visible_bytes,
    )
    environment.globals.update(
        duration=formats.duration,
        heat_tokens=heat.heat_tokens,
        histogram=histogram.lay_out,
        strip=score_strip.lay_out,
        baseline_cells=score_strip.baseline_cells,
        primary_score=primary_score,
        primary_metrics=PRIMARY_METRICS,
        results_by_hypothesis=results_by_hypothesis,
        models_used=models_used,
        pattern_text=pattern_text,
    )
    return environment
