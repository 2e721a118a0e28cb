"""Small evidence and runs, built from words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saexplain.activation.v1.activation_pb2 import TokenNeighbors, WindowList
from saexplain.agent.v1.agent_pb2 import Evidence, ExplainerOptions, RunState
from saexplain.common.v1 import experiment_pb2 as experiment
from saexplain.common.v1.feature_pb2 import FeatureFacts
from saexplain.common.v1.text_pb2 import TokenSpan, WeightedToken
from saexplain.common.v1.usage_pb2 import JournalScope, LlmOptions
from saexplain.common.v1.window_pb2 import (
    SPLIT_EXPLAIN,
    WINDOW_STRATEGY_NEAR_MISS,
    WINDOW_STRATEGY_TOP,
    Window,
    WindowSelection,
)

OWNER = "projects/default/explanations/e1"
REFERENCE_MAX = 8.0


def span(text: str) -> TokenSpan:
    """One token per word, each but the first with its leading space."""
    words = text.split(" ")
    pieces = [words[0].encode(), *(b" " + word.encode() for word in words[1:])]
    return TokenSpan(token_ids=range(1, len(pieces) + 1), token_bytes=pieces)


def values(text: str, activations: Mapping[str, float]) -> list[float]:
    """An activation per word of `text`, 0 where none is given."""
    return [activations.get(word.strip(".,"), 0.0) for word in text.split(" ")]


def window(number: int, text: str, activations: Mapping[str, float], strategy: int) -> Window:
    """A window of the EXPLAIN split."""
    found = values(text, activations)
    return Window(
        name=f"indexes/i1/windows/{number}",
        document=f"d{number}",
        source=f"s{number}",
        kind="prose",
        split=SPLIT_EXPLAIN,
        tokens=span(text),
        activations=found,
        max_activation=max(found),
        inclusion_probability=1.0,
        strategy=strategy,
    )


def evidence(word: str = "almost", strength: float = 8.0) -> Evidence:
    """Four windows that fire at one word, and two that do not."""
    fires = {word: strength, "nearly": 3.0}
    active = (
        f"He was {word} asleep when the bell rang twice",
        f"The bridge is {word} finished after seven long years",
        f"They {word} nearly missed the last boat to town",
        f"It was {word} dark inside the old stone chapel",
    )
    silent = (
        "Most people left the hall before the second act began",
        "The clerk counted every coin on the wooden table",
    )
    lists = [
        WindowList(
            selection=WindowSelection(strategy=strategy, split=SPLIT_EXPLAIN, count=10),
            windows=[window(base + n, t, marks, strategy) for n, t in enumerate(texts)],
        )
        for strategy, base, texts, marks in (
            (WINDOW_STRATEGY_TOP, 10, active, fires),
            (WINDOW_STRATEGY_NEAR_MISS, 20, silent, {}),
        )
    ]
    reference_max = strength
    return Evidence(
        facts=FeatureFacts(
            feature="saes/demo/features/7",
            density=0.002,
            max_activation=reference_max,
            reference_max=reference_max,
            promoted_tokens=[WeightedToken(token_id=1, token_bytes=b" PROMOTED", weight=1)],
        ),
        windows=lists,
        token_neighbors=[
            TokenNeighbors(
                token=WeightedToken(token_id=2, token_bytes=b" almost", weight=1),
                variants=[WeightedToken(token_id=3, token_bytes=b" Almost", weight=0.9)],
                neighbors=[WeightedToken(token_id=4, token_bytes=b" virtually", weight=0.7)],
            )
        ],
    )


def options(explainer: str = "sage", **counts: int) -> ExplainerOptions:
    """Options with a model."""
    return ExplainerOptions(explainer=explainer, llm=LlmOptions(model="m"), **counts)


def scope(step: str = "step", round_: int = 0) -> JournalScope:
    """A journal scope."""
    return JournalScope(owner=OWNER, step=step, round=round_)


def hypothesis(
    id_: str,
    statement: str = "",
    status: int = experiment.HYPOTHESIS_STATUS_OPEN,
    revision: int = 1,
) -> experiment.Hypothesis:
    """A hypothesis with counts that a rewording must clear."""
    return experiment.Hypothesis(
        id=id_,
        statement=statement or f"The claim of {id_}.",
        kind=experiment.HYPOTHESIS_KIND_LEXICAL,
        status=status,
        revision=revision,
        tally=experiment.HypothesisTally(positive_count=6, positive_passed_count=2),
    )


def result(
    id_: str,
    owner: str,
    text: str,
    *,
    predicted_active: bool = True,
    outcome: int = experiment.PROBE_OUTCOME_ACTIVE,
    activations: Mapping[str, float] | None = None,
    revision: int = 1,
) -> experiment.ProbeResult:
    """A measured probe."""
    found = values(text, activations or {})
    wanted = (
        experiment.PROBE_OUTCOME_ACTIVE if predicted_active else experiment.PROBE_OUTCOME_SILENT
    )
    role = experiment.PROBE_ROLE_POSITIVE if predicted_active else experiment.PROBE_ROLE_BOUNDARY
    return experiment.ProbeResult(
        probe=experiment.Probe(
            id=id_,
            hypothesis_id=owner,
            hypothesis_revision=revision,
            text=text,
            role=role,
            predicted_active=predicted_active,
            round=1,
        ),
        outcome=outcome,
        tokens=span(text),
        activations=found,
        max_activation=max(found),
        passed=outcome == wanted,
    )


def state(
    hypotheses: Sequence[experiment.Hypothesis],
    results: Sequence[experiment.ProbeResult] = (),
    *,
    round_: int = 1,
    uncovered: Sequence[str] = (),
) -> RunState:
    """A run so far."""
    return RunState(
        hypotheses=hypotheses, results=results, uncovered_windows=uncovered, round=round_
    )
