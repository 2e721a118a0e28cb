"""What a command line asks for, as the messages of the contract."""

from __future__ import annotations

from collections.abc import Sequence

from saexplain.agent.v1.agent_pb2 import ExplainerOptions
from saexplain.common.v1.usage_pb2 import LlmOptions
from saexplain.explanation.v1.dossier_pb2 import Budget
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from services.common.errors import InvalidArgument
from services.common.names import FeatureRef, parse_sae, sae_name


def sae_of(text: str) -> str:
    """The name of a SAE given as `saes/{id}` or as its id alone.

    Raises:
        InvalidArgument: it is neither.
    """
    name = text if text.startswith("saes/") else sae_name(text)
    parse_sae(name, "SAE")
    return name


def feature_names(sae: str, indices: Sequence[int]) -> list[str]:
    """Names of the features, repeats left out.

    Raises:
        InvalidArgument: an index is negative.
    """
    sae_id = parse_sae(sae_of(sae), "SAE")
    for index in indices:
        if index < 0:
            raise InvalidArgument(f"{index} is no index of a feature", "FEATURE")
    return [FeatureRef(sae_id, index).name for index in dict.fromkeys(indices)]


def explainer_options(explainer: str, seed: int, model: str) -> ExplainerOptions:
    """Options of an explainer; `model` names the language model where it uses one."""
    llm = LlmOptions(model=model) if model else None
    return ExplainerOptions(explainer=explainer, seed=seed, llm=llm)


def method_options(
    methods: str, *, has_pattern: bool, seed: int, model: str, judge: str = ""
) -> list[MethodOptions]:
    """The methods of a comma-separated list; empty for those that run by default.

    Args:
        has_pattern: whether the explanation predicts by itself; others need a judge.
        judge: `pattern` or `llm` for all; empty for the pattern where there is one.

    Raises:
        InvalidArgument: no such judge, or one without methods to judge with.
    """
    if judge not in ("", "pattern", "llm"):
        raise InvalidArgument(f"{judge!r} is none of pattern, llm", "--judge")
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if judge and not names:
        raise InvalidArgument("needs --methods to judge with", "--judge")
    chosen = judge or ("pattern" if has_pattern else "llm")
    llm = LlmOptions(model=model) if model and chosen == "llm" else None
    return [MethodOptions(method=name, judge=chosen, seed=seed, llm=llm) for name in names]


def predicts_by_itself(explainer: str) -> bool:
    """Whether the explanations of an explainer carry a pattern."""
    return explainer == "lexical"


def budget_of(rounds: int | None) -> Budget | None:
    """A budget with so many rounds; None for the defaults."""
    return None if rounds is None else Budget(max_round_count=rounds)
