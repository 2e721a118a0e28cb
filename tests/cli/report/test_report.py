"""The report: everything in it, nothing of the corpus alive in it, nothing asked for.

Load-bearing: hostile corpus text. The page is parsed with another HTML parser than the one
that wrote it, and every element and attribute in it has to be one of the template's.
"""

from __future__ import annotations

import re
from datetime import datetime
from html.parser import HTMLParser

import pytest

from saexplain.common.v1.score_pb2 import SCORE_STATUS_OK
from saexplain.explanation.v1.explanation_pb2 import DossierBundle
from services.cli.report import render_report
from services.cli.testing import DossierBuilder, FeatureSketch

NOW = datetime(2026, 11, 22, 16, 0)
HOSTILE = (
    "</style></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\" onmouseover='alert(3)' \u202egnp.exe\x00{{ 7 * 7 }}{% raw %}"
)


class Page(HTMLParser):
    """Elements, attributes and text of a document."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag in {"script", "style"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.text += data


def render(*bundles: DossierBundle) -> str:
    return render_report(bundles, created=NOW)


def values(page: Page, name: str) -> list[str]:
    return [value or "" for attribute, value in page.attributes if attribute == name]


def test_hostile_text_makes_no_element_and_no_handler() -> None:
    """A corpus from the web will hold markup; a report is opened by many."""
    calm, hostile = (
        Page(render(DossierBuilder().build())),
        Page(render(DossierBuilder(hostile=HOSTILE).build())),
    )
    assert set(hostile.tags) == set(calm.tags)
    assert {name for name, _ in hostile.attributes} == {name for name, _ in calm.attributes}
    assert hostile.tags.count("script") == 1
    assert not any(name.startswith("on") for name, _ in hostile.attributes)
    assert "<script>alert(1)</script>" in hostile.text, "the text itself has to be shown"
    assert "{{ 7 * 7 }}" in hostile.text


def test_control_characters_and_text_direction_are_named_not_obeyed() -> None:
    """U+202E would show the rest of the line backwards."""
    html = render(DossierBuilder(hostile=HOSTILE).build())
    assert "\u202e" not in html
    assert "\x00" not in html
    assert "⟨U+202E⟩" in html
    assert "⟨U+0000⟩" in html


def test_the_page_asks_for_nothing() -> None:
    """Self-contained: it opens offline, and tells nobody that it was opened."""
    html = render(DossierBuilder().build())
    page = Page(html)
    assert {"link", "img", "iframe", "object", "embed", "form", "base"}.isdisjoint(page.tags)
    assert not values(page, "src")
    assert all(target.startswith("#") for target in values(page, "href"))
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_every_score_stands_beside_its_interval_and_baselines() -> None:
    """A score without its baselines says nothing."""
    bundle = DossierBuilder().build()
    text = Page(render(bundle)).text
    for result in bundle.dossier.results:
        assert result.method in text
        for score in result.scores:
            assert score.metric.replace("_", " ") in text
            if score.status != SCORE_STATUS_OK:
                assert score.status_reason in text
                continue
            assert f"{score.value:.2f}" in text
            assert f"[{score.interval.low:.2f}, {score.interval.high:.2f}]" in text
            if score.HasField("gap_closed"):
                assert f"{score.gap_closed:.2f}" in text
            for baseline in score.baselines:
                if baseline.HasField("value"):
                    assert f"{baseline.value:.2f}" in text
                    assert baseline.name in text
            counts = (score.positive_count, score.negative_count)
            assert f"{counts[0]} / {counts[1]} / {score.failed_count}" in text


def test_an_undefined_score_has_no_number() -> None:
    """Absent is not zero."""
    bundle = DossierBuilder().build()
    for result in bundle.dossier.results:
        for score in result.scores:
            score.ClearField("value")
            score.ClearField("interval")
            score.ClearField("gap_closed")
            del score.baselines[:]
    html = render(bundle)
    assert "<circle" not in html
    assert 'corpus f1" class="num"><b>–</b>' in html


def test_hypotheses_experiments_and_provenance_are_told() -> None:
    """What was tried and refuted is evidence too."""
    bundle = DossierBuilder(explainer="sage").build()
    text = Page(render(bundle)).text
    dossier = bundle.dossier
    for hypothesis in dossier.hypotheses:
        assert hypothesis.statement in text
    for status in ("supported", "refuted", "superseded"):
        assert status in text
    for result in dossier.rounds[0].results:
        assert result.probe.id in text
    numerics = dossier.plan.sae.numerics
    for fact in (
        dossier.digest,
        dossier.explanation_digest,
        numerics.model_fingerprint,
        numerics.sae_fingerprint,
        numerics.tokenizer_fingerprint,
        dossier.plan.prompt_fingerprint,
        dossier.plan.index,
        "gpt-5-mini",
        "24\u202f160",
        "0.0132 USD",
    ):
        assert fact in text


def test_the_vocabulary_probe_and_the_ceiling_are_told() -> None:
    """Guards against evidence that explainers used and readers do not see."""
    text = Page(render(DossierBuilder().build())).text
    assert "vocabulary, short-1" in text
    assert "113 of 49\u202f152 tokens fire" in text
    assert "24 exemplars stay active when cut to ±5 tokens" in text


def test_values_are_shown_on_hover_and_line_breaks_are_visible() -> None:
    """The heat alone cannot be read by everybody."""
    bundle = DossierBuilder().build()
    page = Page(render(bundle))
    top = bundle.dossier.evidence.windows[0].windows[0]
    assert any(note.startswith(f"{top.max_activation:.2f} ·") for note in values(page, "title"))
    assert "↵\n" in page.text
    assert "0.1 ref · silent" in page.text
    assert "0.5 ref · active" in page.text


def test_an_unknown_price_is_not_zero() -> None:
    """`never 0 for unknown`, says the contract."""
    bundle = DossierBuilder(explainer="sage").build()
    bundle.run.usage.ClearField("cost")
    assert "not known" in Page(render(bundle)).text
    assert "cost" in Page(render(DossierBuilder().build())).text


@pytest.mark.parametrize("cut", ["facts", "evidence", "hypotheses", "rounds", "results", "run"])
def test_a_dossier_with_less_in_it_still_renders(cut: str) -> None:
    """Dead features and failed methods leave parts out."""
    bundle = DossierBuilder().build()
    if cut == "run":
        bundle.ClearField("run")
    else:
        bundle.dossier.ClearField(cut)
    assert "</html>" in render(bundle)


def test_an_empty_dossier_renders_and_no_dossier_is_refused() -> None:
    """Nothing may be invented for what is not there."""
    text = Page(render(DossierBundle())).text
    assert "There was none." in text
    with pytest.raises(ValueError, match="at least one"):
        render()


def test_the_same_dossiers_give_the_same_bytes_and_each_feature_its_place() -> None:
    """Reports are compared and linked to."""
    bundles = (
        DossierBuilder().build(),
        DossierBuilder(FeatureSketch(77, "count", ("counts",), ("weighs",)), seed=3).build(),
    )
    html = render(*bundles)
    assert html == render(*bundles)
    page = Page(html)
    assert {"f1", "f2"} <= set(values(page, "id"))
    assert values(page, "href") == ["#f1", "#f2"]
