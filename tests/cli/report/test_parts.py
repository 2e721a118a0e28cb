"""Geometry and tokens of the report, checked by hand."""

from __future__ import annotations

import pytest

from saexplain.common.v1.feature_pb2 import FeatureFacts, HistogramBin
from saexplain.common.v1.score_pb2 import Baseline, Interval, Score
from saexplain.common.v1.text_pb2 import TokenSpan
from services.cli import visible
from services.cli.report import formats, heat, histogram, score_strip


def test_warmth_is_the_share_of_the_reference_maximum() -> None:
    """Not of the window's own maximum: a weak window has to look weak."""
    span = TokenSpan(token_bytes=[b"a", b" b", b"c", b"d"])
    tokens = heat.heat_tokens(span, [0.0, 2.0, 5.0, 30.0], 10.0, 0.5)
    assert [token.share for token in tokens] == [0.0, 0.2, 0.5, 1.0]
    assert [token.strong for token in tokens] == [False, False, True, True]
    assert tokens[0].note == ""
    assert tokens[3].note == "30.00 · 300% of reference"


def test_as_many_values_as_tokens_are_needed() -> None:
    """A shifted heat map would be a lie that looks fine."""
    with pytest.raises(ValueError, match="1 activations for 2 tokens"):
        heat.heat_tokens(TokenSpan(token_bytes=[b"a", b"b"]), [1.0], 10.0, 0.5)


def test_parts_of_characters_and_whitespace_are_visible() -> None:
    """A token may hold half of a character."""
    assert visible.visible_bytes("€".encode()[:2]) == "\\xe2\\x82"
    assert visible.visible_bytes(b"\t\n") == "⇥\t↵\n"
    assert visible.visible_text("a\u200bb") == "a⟨U+200B⟩b"


def test_thresholds_stand_at_their_shares_of_the_reference_maximum() -> None:
    """The axis ends at the last bin here: 10; its width is known."""
    facts = FeatureFacts(
        reference_max=8.0,
        histogram=[
            HistogramBin(low=0, high=5, count=1000),
            HistogramBin(low=5, high=10, count=10),
            HistogramBin(low=10, high=12, count=0),
        ],
    )
    plot = histogram.lay_out(facts, 0.1, 0.5)
    assert plot is not None
    unit = (plot.right - plot.left) / 10
    assert [mark.at for mark in plot.thresholds] == [
        pytest.approx(plot.left + 0.8 * unit, abs=0.1),
        pytest.approx(plot.left + 4.0 * unit, abs=0.1),
    ]
    assert len(plot.bars) == 2, "an empty bin is not drawn"
    heights = [bar.height for bar in plot.bars]
    # Above a floor of 10^-0.15: decades 3 and 1.
    assert heights[0] / heights[1] == pytest.approx(3.15 / 1.15, rel=0.02)
    assert histogram.lay_out(FeatureFacts(), 0.1, 0.5) is None


def test_a_strip_goes_below_zero_only_where_something_does() -> None:
    """A negative correlation must not be drawn as zero."""
    score = Score(value=0.5, interval=Interval(low=0.25, high=0.75))
    strip = score_strip.lay_out(score)
    assert strip is not None
    assert strip.value == pytest.approx((strip.begin + strip.end) / 2)
    assert strip.zero == strip.begin
    score.baselines.append(Baseline(name="constant", value=-1.0))
    strip = score_strip.lay_out(score)
    assert strip is not None
    assert strip.zero == pytest.approx((strip.begin + strip.end) / 2)
    assert strip.baselines == (("constant", strip.begin),)


def test_absent_numbers_are_dashes_and_minus_zero_is_zero() -> None:
    """`-0.00` looks like a loss."""
    assert formats.number(None) == "–"
    assert formats.number(-0.001) == "0.00"
    assert formats.number(-0.25) == "−0.25"
    assert formats.percent(0.00041) == "0.041 %"
    score = Score(status=2)
    assert formats.enum_name(score, "status") == "undefined"
    assert formats.optional(score, "value") is None
