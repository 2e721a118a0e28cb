"""What the demo decides by itself: which features it shows, and whether indexes agree."""

from __future__ import annotations

import pytest

from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.window_pb2 import Window
from services.cli.demo.choose import ChosenFeature, kind_of_windows, spread, token_class
from services.cli.demo.compare import Comparison


@pytest.mark.parametrize(
    ("token", "before", "expected"),
    [
        (b" almost", b" was", "word"),
        (b" Almost", b".", "capitalised word"),
        (b"ing", b" runn", "rest of a word"),
        (b"ing", b" ", "word"),
        (b" 1984", b" in", "digits"),
        (b" --", b" a", "punctuation"),
        (b"\n\n", b".", "line break"),
        (b"  ", b".", "whitespace"),
    ],
)
def test_tokens_have_the_class_that_a_reader_would_name(
    token: bytes, before: bytes, expected: str
) -> None:
    """Kinds are printed beside the features."""
    assert token_class(token, before) == expected


def window(words: list[str], peak: int) -> Window:
    values = [1.0 if i == peak else 0.0 for i in range(len(words))]
    span = TokenSpan(token_bytes=[word.encode() for word in words])
    return Window(tokens=span, activations=values)


def test_a_feature_of_one_word_differs_in_kind_from_one_of_many() -> None:
    """Case and spaces make no other token."""
    same = [window([" an", " almost"], 1), window([" ALMOST", " x"], 0)]
    many = [window([" an", " almost"], 1), window([" an", " nearly"], 1)]
    assert kind_of_windows(same).endswith("one token")
    assert kind_of_windows(many) == "word, several tokens"


def test_every_kind_comes_before_a_second_of_any() -> None:
    """Eight features of one kind are a dull demo."""
    kinds = ["a", "a", "a", "b", "a", "c", "b"]
    features = [ChosenFeature(i, kind) for i, kind in enumerate(kinds)]
    assert [f.index for f in spread(features, 5)] == [0, 3, 5, 1, 6]


def test_values_within_the_tolerance_agree_and_others_do_not() -> None:
    """Negative control: a comparison that cannot fail proves nothing."""
    close = Comparison(tolerance=1e-4)
    close.add([1.0, 0.0, 5.0], [1.0005, 0.0, 5.0], 10.0)
    assert close.agrees
    assert close.largest_difference == pytest.approx(5e-5)
    close.add([1.0], [1.1], 10.0)
    assert (close.beyond_count, close.agrees) == (1, False)


def test_a_value_that_flips_to_zero_is_counted_apart_and_only_a_few_may() -> None:
    """TopK turns rounding into value or zero, but hardly ever."""
    flipped = Comparison(tolerance=1e-4)
    flipped.add([2.0] * 1999 + [0.0], [2.0] * 2000, 10.0)
    assert (flipped.flip_count, flipped.beyond_count, flipped.agrees) == (1, 0, True)
    flipped.add([0.0] * 4, [2.0] * 4, 10.0)
    assert not flipped.agrees


def test_nothing_compared_is_no_agreement() -> None:
    """Otherwise an empty index would agree with everything."""
    assert not Comparison(tolerance=1e-4).agrees
