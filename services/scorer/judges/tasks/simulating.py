"""SIMULATE: the expected activation at every token (OpenAI's automated interpretability).

The reply pairs every token's index with a number from 0 to 10, so that a slip of one token
is seen instead of shifting all that follows. Where the endpoint reports the alternatives of
each number, the prediction is their expected value; where it does not, for any number of
an item, the item's stated numbers stand and say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from saexplain.scorer.v1.scorer_pb2 import (
    SHARE_SOURCE_LOG_PROBABILITIES,
    SHARE_SOURCE_STATED,
    JudgeItem,
    Prediction,
)
from services.common.llm.calls import TokenAlternatives
from services.common.llm.replies import ReplyModel
from services.common.llm.session import Answer
from services.scorer.judges.asking import Task, answered
from services.scorer.judges.rendering import by_number, joined, numbered
from services.scorer.judges.tasks.predicting import STRONGEST
from services.scorer.statistics.expected import exact_digits, expected_value

_INTEGER = re.compile(r"-?\d+")
_AROUND = " ,[]:\n\t"
"""What a tokenizer may join to a number in JSON."""


class SimulatedPassage(ReplyModel):
    """The simulation of one passage: [index, number] for every token, in order."""

    passage: int
    values: list[list[int]]


class SimulateReply(ReplyModel):
    """Reply to `simulate`."""

    passages: list[SimulatedPassage]


def expected_numbers(tokens: Sequence[TokenAlternatives]) -> list[tuple[int, float | None]]:
    """Every integer of a reply in order, with its expected value over the alternatives of
    the token that holds it; None where it is not one token, or none is from 0 to 10.

    A 10 in two tokens shares the first one's mass between 1 and 10.
    """
    text = "".join(t.token for t in tokens)
    starts: dict[int, int] = {}
    position = 0
    for place, token in enumerate(tokens):
        for offset in range(len(token.token)):
            starts[position + offset] = place
        position += len(token.token)
    return [
        (int(found.group()), _expected(tokens, starts, found.start(), found.end()))
        for found in _INTEGER.finditer(text)
    ]


def _expected(
    tokens: Sequence[TokenAlternatives], owner: Mapping[int, int], begin: int, end: int
) -> float | None:
    places = sorted({owner[position] for position in range(begin, end)})
    first = tokens[places[0]]
    masses = exact_digits((t.strip(_AROUND), p) for t, p in first.top)
    if len(places) == 2 and first.token.strip(_AROUND) == "1":
        second = exact_digits((t.strip(_AROUND), p) for t, p in tokens[places[1]].top)
        one, zero = masses.pop(1, 0.0), min(second.get(0, 0.0), 1.0)
        masses |= {1: one * (1 - zero), 10: masses.get(10, 0.0) + one * zero}
    elif len(places) != 1 or len(_INTEGER.findall(first.token)) != 1:
        return None
    return expected_value(masses).value


def _shown(item: JudgeItem) -> dict[str, str]:
    return {"context": joined(item.left_context), "tokens": numbered(item.tokens)}


def _read(batch: Sequence[JudgeItem], answer: Answer[SimulateReply]) -> Mapping[str, Prediction]:
    passages = answer.value().passages
    expected = _expectations(passages, answer.alternatives)
    found: dict[str, Prediction] = {}
    answers = by_number(
        ((p.passage, (p, e)) for p, e in zip(passages, expected, strict=True)), len(batch)
    )
    for number, (simulated, values) in answers.items():
        item = batch[number - 1]
        stated = stated_numbers(simulated, len(item.tokens.token_ids))
        if stated is None:
            continue
        numbers = stated if values is None else values
        source = SHARE_SOURCE_STATED if values is None else SHARE_SOURCE_LOG_PROBABILITIES
        shares = [n / STRONGEST for n in numbers]
        found[item.id] = answered(item, shares=shares, share_source=source)
    return found


def stated_numbers(simulated: SimulatedPassage, token_count: int) -> list[float] | None:
    """The stated numbers; None unless every token has one from 0 to 10, in its place."""
    values = simulated.values
    if [v[:1] for v in values] != [[i] for i in range(token_count)]:
        return None
    if any(len(v) != 2 or not 0 <= v[1] <= STRONGEST for v in values):
        return None
    return [float(v[1]) for v in values]


def _expectations(
    passages: Sequence[SimulatedPassage], alternatives: tuple[TokenAlternatives, ...] | None
) -> list[list[float] | None]:
    """Expected values of every passage; None for a passage that lacks any, and for all
    where the numbers of the text are not those of the reply."""
    none: list[list[float] | None] = [None] * len(passages)
    if alternatives is None:
        return none
    read = expected_numbers(alternatives)
    flat = [n for p in passages for n in (p.passage, *(v for pair in p.values for v in pair))]
    if [number for number, _ in read] != flat:
        return none
    result: list[list[float] | None] = []
    place = 0
    for simulated in passages:
        place += 1
        values = [read[place + 2 * i + 1][1] for i in range(len(simulated.values))]
        place += sum(len(pair) for pair in simulated.values)
        known = [v for v in values if v is not None]
        result.append(known if len(known) == len(values) else None)
    return result


SIMULATE = Task("simulate_activations", SimulateReply, "simulate", 8, _shown, _read, 20)
