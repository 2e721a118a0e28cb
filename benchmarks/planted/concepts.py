"""The planted concepts, frozen before the rule search was touched.

A concept says of every token of a context whether it holds there. 8 can be written in the
rule language, 8 depend on context beyond it, 4 are unions of unrelated triggers (again in
the language), and 4 lie outside it. A test records this file's digest: who edits a concept
after seeing a result has to say so there.

Concepts read text, not tokens, wherever the rule language cannot: spans of characters are
found first, and the last token that touches a span carries the label, because a causal
model cannot know of a span before it is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saexplain.common.v1.pattern_pb2 import (
    TOKEN_CLASS_CAPITALIZED,
    TOKEN_CLASS_DIGITS,
    LeftCondition,
    Pattern,
    PatternPart,
    PatternRule,
    TokenMatcher,
)
from saexplain.common.v1.text_pb2 import TokenSpan
from services.common.pattern import predict

Bools = NDArray[np.bool_]
Family = Literal["language", "context", "union", "outside"]
Span = tuple[int, int]
"""Half-open range of characters."""


@dataclass(frozen=True)
class Concept:
    """One concept.

    Attributes:
        name: short, unique.
        family: where it stands relative to the rule language.
        meaning: a sentence for people.
        holds: the tokens' bytes of a context to one truth value each.
        pattern: the hand-written rule, where the language can say exactly this.
    """

    name: str
    family: Family
    meaning: str
    holds: Callable[[Sequence[bytes]], Bools]
    pattern: Pattern | None = None


# The rule language, in brief.


def _words(*words: str) -> list[TokenMatcher]:
    return [TokenMatcher(literal=f" {word}".encode()) for word in words]


def _exactly(*tokens: str) -> list[TokenMatcher]:
    return [TokenMatcher(literal=token.encode()) for token in tokens]


def _after(distance: int, *matchers: TokenMatcher, negated: bool = False) -> LeftCondition:
    return LeftCondition(max_distance=distance, any_of=matchers, negated=negated)


def _part(tokens: Iterable[TokenMatcher], *left: LeftCondition) -> PatternPart:
    return PatternPart(rules=[PatternRule(token=t, left=left, strength=1) for t in tokens])


def _rules(name: str, family: Family, meaning: str, *parts: PatternPart) -> Concept:
    pattern = Pattern(parts=parts)

    def holds(tokens: Sequence[bytes]) -> Bools:
        span = TokenSpan(token_ids=[0] * len(tokens), token_bytes=tokens)
        return np.asarray(predict(pattern, span) > 0)

    return Concept(name, family, meaning, holds, pattern)


# Spans of text to tokens.


def _text(
    name: str, family: Family, meaning: str, find: Callable[[str], Iterable[Span]]
) -> Concept:
    def holds(tokens: Sequence[bytes]) -> Bools:
        pieces = [token.decode("utf-8", "surrogateescape") for token in tokens]
        ends = np.cumsum([len(piece) for piece in pieces])
        marked = np.zeros(len(tokens), bool)
        for _, end in find("".join(pieces)):
            marked[int(np.searchsorted(ends, end, side="left"))] = True
        return marked

    return Concept(name, family, meaning, holds)


_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")


def _words_in(text: str, begin: int, end: int) -> Iterator[re.Match[str]]:
    return _WORD.finditer(text, begin, end)


def _sentences(text: str) -> Iterator[tuple[int, int, list[re.Match[str]]]]:
    """Bounds and words of every sentence with a word in it."""
    for match in _SENTENCE.finditer(text):
        words = list(_words_in(text, match.start(), match.end()))
        if words:
            yield match.start(), match.end(), words


def _closed(text: str, begin: int, end: int) -> bool:
    return text[end - 1 : end] in (".", "!", "?")


# Dependent on context.


def _quoted(text: str) -> Iterator[Span]:
    """First-person pronouns behind an opened quotation mark."""
    opened = False
    for match in re.finditer(r"[\"“”\n]|\b(?:I|me|my)\b", text):
        mark = match.group()
        if mark == "\n":
            opened = False
        elif mark in '"“”':
            opened = mark == "“" or (mark == '"' and not opened)
        elif opened:
            yield match.span()


def _third_item(text: str) -> Iterator[Span]:
    """Third member of an enumeration within a line."""
    item = r"[A-Za-z]+(?: [A-Za-z]+){0,2}"
    for match in re.finditer(rf"{item}, {item},? (?:and |or )?([A-Za-z]+)", text):
        if match.group().count(",") >= 2:
            yield match.span(1)


def _second_mention(text: str) -> Iterator[Span]:
    """A capitalised word within a sentence that the context has named exactly once before."""
    seen: Counter[str] = Counter()
    for match in re.finditer(r"(?<=[a-z,;] )[A-Z][a-z]{2,}", text):
        seen[match.group()] += 1
        if seen[match.group()] == 2:
            yield match.span()


def _topic(text: str) -> Iterator[Span]:
    """The word after the topic was set at least forty characters before."""
    topic = re.search(r"\b(?:files?|director(?:y|ies)|folders?|paths?|disks?)\b", text)
    if topic:
        for match in re.finditer(
            r"\b(?:name|names|open|read|write|list|copy|save|size|file|contents)\b", text
        ):
            if match.start() >= topic.end() + 40:
                yield match.span()


def _long_parenthesis(text: str) -> Iterator[Span]:
    """Words of a parenthesis from its third on."""
    for match in re.finditer(r"\(([^()\n]{1,200})", text):
        for word in list(_words_in(text, *match.span(1)))[2:]:
            yield word.span()


def _asking(text: str) -> Iterator[Span]:
    """Words from the fifth on in a sentence that begins with a question word."""
    for _, _, words in _sentences(text):
        if words[0].group().lower() in ("what", "how", "why", "who", "where", "which"):
            for word in words[4:]:
                yield word.span()


def _comment(text: str) -> Iterator[Span]:
    """Words of a code comment from its third on."""
    for match in re.finditer(r"(?:^|\n)[ \t]*(?://|#|\*)+ ([^\n]+)", text):
        for word in list(_words_in(text, *match.span(1)))[2:]:
            yield word.span()


def _far_bracket(text: str) -> Iterator[Span]:
    """A closing bracket whose opening one stands at least five words before."""
    for match in re.finditer(r"\(([^()\n]*)\)", text):
        if len(list(_words_in(text, *match.span(1)))) >= 5:
            yield match.end() - 1, match.end()


# Outside the language.


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PLURAL = _set("we they these those many several few both people men women children")
_SINGULAR = _set("he she it this that one each every another i")
_AUXILIARY = _set("had could would should will must can may might")
_GOOD = _set(
    "good great best better love loved happy joy hope kind beautiful pleasure friend nice glad "
    "pleased fine brave peace success win sweet bright noble thank thanks honour honor"
)
_BAD = _set(
    "bad worse worst hate hated evil death dead die died kill killed war enemy fear afraid pain "
    "poor wrong terrible dark lost lose sad cruel anger angry fail failed failure error danger "
    "dangerous fool cry weak sick hurt destroy destroyed ill"
)


def _plural_subject(text: str) -> Iterator[Span]:
    """An auxiliary whose nearest cue of number to the left, in its sentence, is plural."""
    for _, _, words in _sentences(text):
        plural = False
        for word in words:
            lower = word.group().lower()
            if lower in _AUXILIARY and plural:
                yield word.span()
            elif lower in _PLURAL or (len(lower) > 3 and re.search(r"[^su]s$", lower)):
                plural = True
            elif lower in _SINGULAR:
                plural = False


def _even_sentence(text: str) -> Iterator[Span]:
    """The end of a sentence with an even number of words."""
    for begin, end, words in _sentences(text):
        if _closed(text, begin, end) and len(words) % 2 == 0 and len(words) >= 4:
            yield end - 1, end


def _gloomy_sentence(text: str) -> Iterator[Span]:
    """The end of a sentence with more bad words than good ones."""
    for begin, end, words in _sentences(text):
        lower = [word.group().lower() for word in words]
        balance = sum(w in _GOOD for w in lower) - sum(w in _BAD for w in lower)
        if _closed(text, begin, end) and balance < 0:
            yield end - 1, end


def _object(text: str) -> Iterator[Span]:
    """The head of a noun phrase that is the object of a verb, not of a preposition."""
    verbs = (
        "take|took|taken|make|made|give|gave|given|find|found|see|saw|seen|have|had|get|got|"
        "use|used|bring|brought|keep|kept|leave|left|hold|held|send|sent|set|put|open|create"
    )
    phrase = rf"\b(?:{verbs}) (?:the|a|an|his|her|your|my|their|our)((?: [a-z]+){{1,4}})"
    stop = _set(
        "of in on at to for with by from and or but as than that which who when if is was are "
        "were be been has had not into upon over under it he she they you"
    )
    for match in re.finditer(phrase, text):
        head: Span | None = None
        for word in _words_in(text, *match.span(1)):
            if word.group() in stop:
                break
            head = word.span()
        if head:
            yield head


CONCEPTS: tuple[Concept, ...] = (
    _rules(
        "modal verbs",
        "language",
        "can, could, may, might, must, should, would",
        _part(_words("can", "could", "may", "might", "must", "should", "would")),
    ),
    _rules(
        "that after saying or knowing",
        "language",
        "“that” within two tokens behind a verb of saying or knowing",
        _part(
            _words("that"),
            _after(
                2,
                *_words("say", "said", "says", "know", "knew", "known", "think", "thought"),
                *_words(
                    "believe", "believed", "see", "saw", "told", "ensure", "note", "means", "so"
                ),
                *_words("sure", "fear", "suppose", "find", "found", "felt", "shows", "hope"),
            ),
        ),
    ),
    _rules("ends in ment", "language", "tokens in -ment", _part([TokenMatcher(suffix=b"ment")])),
    _rules(
        "digit after digit",
        "language",
        "a digit right behind a digit",
        _part(
            [TokenMatcher(token_class=TOKEN_CLASS_DIGITS)],
            _after(1, TokenMatcher(token_class=TOKEN_CLASS_DIGITS)),
        ),
    ),
    _rules(
        "capitalised after the",
        "language",
        "a capitalised word right behind “the”",
        _part([TokenMatcher(token_class=TOKEN_CLASS_CAPITALIZED)], _after(1, *_words("the"))),
    ),
    _rules(
        "of after a noun in -ion",
        "language",
        "“of” right behind a token in -ion",
        _part(_words("of"), _after(1, TokenMatcher(suffix=b"ion"))),
    ),
    _rules(
        "begins with inter or over",
        "language",
        "tokens that begin with inter or over",
        _part([TokenMatcher(prefix=b"inter"), TokenMatcher(prefix=b"over")]),
    ),
    _rules(
        "is not after a pronoun",
        "language",
        "a form of be that no pronoun stands right before",
        _part(
            _words("is", "are", "was", "were"),
            _after(
                1,
                *_words("it", "he", "she", "they", "we", "you", "that", "this", "which", "who"),
                *_words("there", "I", "what"),
                *_exactly("It", "He", "She", "They", "We", "You", "That", "This", "There", "I"),
                negated=True,
            ),
        ),
    ),
    _text("I within a quotation", "context", "I, me, my inside quotation marks", _quoted),
    _text("third item", "context", "the third item of an enumeration", _third_item),
    _text(
        "second mention", "context", "a name when it comes up for the second time", _second_mention
    ),
    _text("name after files", "context", "name, open, read … once files were talked about", _topic),
    _text(
        "long parenthesis", "context", "words of a parenthesis from its third", _long_parenthesis
    ),
    _text("in a question", "context", "words from the fifth of a wh-sentence", _asking),
    _text("in a comment", "context", "words of a code comment from its third", _comment),
    _text("far bracket", "context", "a bracket that closes five or more words", _far_bracket),
    _rules(
        "not or -ly",
        "union",
        "“not”, and tokens in -ly",
        _part(_words("not")),
        _part([TokenMatcher(suffix=b"ly")]),
    ),
    _rules(
        "question mark or kin",
        "union",
        "a question mark, and words for close kin",
        _part(_exactly("?", '?"')),
        _part(_words("father", "mother", "brother", "sister", "son", "daughter", "wife", "child")),
    ),
    _rules(
        "digit after comma or -ness",
        "union",
        "a digit or space-and-digit within two behind a comma, and tokens in -ness",
        _part(
            [TokenMatcher(token_class=TOKEN_CLASS_DIGITS)],
            _after(2, TokenMatcher(literal=b",")),
        ),
        _part([TokenMatcher(suffix=b"ness")]),
    ),
    _rules(
        "small numbers or titles or semicolons",
        "union",
        "two, three, four, five; King, Queen, Lord, Sir, Mr; a semicolon",
        _part(_words("two", "three", "four", "five")),
        _part(_words("King", "Queen", "Lord", "Sir", "Mr", "Mrs", "Captain")),
        _part(_exactly(";")),
    ),
    _text(
        "auxiliary of a plural", "outside", "auxiliaries that agree with a plural", _plural_subject
    ),
    _text(
        "even sentence", "outside", "the end of a sentence with an even word count", _even_sentence
    ),
    _text("gloomy sentence", "outside", "the end of a sentence of bad words", _gloomy_sentence),
    _text("object of a verb", "outside", "the head noun of a direct object", _object),
)
"""All of them, in the order of the table."""
