"""What a token's bytes say about it, without its neighbours.

Bytes are decoded with `surrogateescape`: a token may hold a piece of a UTF-8 sequence,
and such bytes become lone surrogates, which are neither letters nor digits nor symbols.
So a fragment belongs to no class of words and equals only itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_ANY,
    TOKEN_CLASS_CAPITALIZED,
    TOKEN_CLASS_DIGITS,
    TOKEN_CLASS_LINE_BREAK,
    TOKEN_CLASS_PUNCTUATION,
    TOKEN_CLASS_UPPER_CASE,
    TOKEN_CLASS_WHITESPACE,
    TokenClass,
    TokenMatcher,
)


def text_of(token: bytes) -> str:
    """The token as text; bytes that are not UTF-8 become lone surrogates."""
    return token.decode("utf-8", "surrogateescape")


def without_leading_space(token: bytes) -> bytes:
    """The token less one leading space, if it has one."""
    return token[1:] if token[:1] == b" " else token


def fold_case(token: bytes) -> bytes:
    """Lower case of ASCII and Latin letters; everything else as it is."""
    if token.isascii():
        return token.lower()
    folded = "".join(map(_fold_character, text_of(token)))
    return folded.encode("utf-8", "surrogateescape")


def _fold_character(character: str) -> str:
    lower = character.lower()
    # The dotted capital I lowers to two characters: left alone, as folding may not
    # change the length.
    latin = unicodedata.name(character, "").startswith("LATIN ")
    return lower if len(lower) == 1 and latin else character


def holds_line_break(token: bytes) -> bool:
    """Whether a line feed or a carriage return is in the token."""
    return b"\n" in token or b"\r" in token


def ends_with_letter(token: bytes) -> bool:
    """Whether the last character is a letter."""
    return text_of(token)[-1:].isalpha()


def is_bare_word(token: bytes) -> bool:
    """Whether the token is letters only, without a leading space."""
    return text_of(token).isalpha()


def _word(token: bytes) -> str:
    text = text_of(without_leading_space(token))
    return text if text.isalpha() else ""


def _is_capitalized(token: bytes) -> bool:
    word = _word(token)
    return word[:1].isupper() and not any(c.isupper() for c in word[1:])


def _is_upper_case(token: bytes) -> bool:
    word = _word(token)
    return len(word) >= 2 and all(c.isupper() for c in word)


def _is_punctuation(token: bytes) -> bool:
    text = text_of(without_leading_space(token))
    return bool(text) and all(unicodedata.category(c)[0] in "PS" for c in text)


LOCAL_CLASSES: Mapping[TokenClass.ValueType, Callable[[bytes], bool]] = {
    TOKEN_CLASS_ANY: lambda token: True,
    TOKEN_CLASS_DIGITS: lambda token: text_of(without_leading_space(token)).isdecimal(),
    TOKEN_CLASS_CAPITALIZED: _is_capitalized,
    TOKEN_CLASS_UPPER_CASE: _is_upper_case,
    TOKEN_CLASS_PUNCTUATION: _is_punctuation,
    TOKEN_CLASS_WHITESPACE: lambda token: bool(token) and not token.strip(b" \t"),
    TOKEN_CLASS_LINE_BREAK: holds_line_break,
}
"""Classes that the token's own bytes decide. Words, digits and punctuation may carry one
leading space, as tokenizers glue it to what follows."""


@lru_cache(maxsize=1 << 16)
def in_local_class(token: bytes, token_class: TokenClass.ValueType) -> bool:
    """Whether the token's bytes put it into a class of `LOCAL_CLASSES`."""
    return LOCAL_CLASSES[token_class](token)


def local_test(matcher: TokenMatcher) -> Callable[[bytes], bool]:
    """Whether a token is taken, for every kind of matcher but the classes that depend on the
    token's place; the matcher is read once, so that many tokens cost little."""
    kind = matcher.WhichOneof("kind")
    if kind == "token_class":
        token_class = matcher.token_class
        return lambda token: in_local_class(token, token_class)
    normalize = _normalizer(matcher.ignore_leading_space, matcher.ignore_case)
    wanted = normalize(getattr(matcher, str(kind)))
    if kind == "prefix":
        # The leading space is off either way, so only one may be taken.
        bare = _normalizer(True, matcher.ignore_case)
        return lambda token: bare(token).startswith(wanted)
    if kind == "suffix":
        return lambda token: normalize(token).endswith(wanted)
    return lambda token: normalize(token) == wanted


def matches_locally(matcher: TokenMatcher, token: bytes) -> bool:
    """`local_test` for one token."""
    return local_test(matcher)(token)


def _normalizer(ignore_leading_space: bool, ignore_case: bool) -> Callable[[bytes], bytes]:
    """What makes tokens equal that differ only in what is ignored."""
    if ignore_leading_space and ignore_case:
        return lambda token: fold_case(without_leading_space(token))
    if ignore_leading_space:
        return without_leading_space
    return fold_case if ignore_case else _as_it_is


def _as_it_is(token: bytes) -> bytes:
    return token
