"""Freezes a plan: everything a run relies on, asked for and checked when it is made.

What is left out of a request is filled in with what the services offer at this moment,
with versions and fingerprints, so that a run never meets a default again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from saexplain.activation.v1 import activation_pb2
from saexplain.agent.v1 import agent_pb2
from saexplain.common.v1 import usage_pb2
from saexplain.explanation.v1 import dossier_pb2, explanation_pb2
from saexplain.scorer.v1 import scorer_pb2
from services.common import names
from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    Unimplemented,
)
from services.common.grpc_client import rpc_errors
from services.common.outcomes import OutcomeThresholds
from services.orchestrator import budgets
from services.orchestrator.clients import Services

MOST_METHODS = 16
RPC_SECONDS = 60.0
_BASELINE_EXPLAINER = "lexical"
_IMPORT = "import"
_R = TypeVar("_R")


@dataclass(frozen=True)
class Frozen:
    """A plan with what was asked for to make it.

    Attributes:
        plan: the plan.
        catalog: the scoring methods as they were offered.
        explainer_asks_llm: whether the explainer asks a language model.
        baseline_explainer_version: version of `lexical`; empty where it is not offered.
    """

    plan: dossier_pb2.Plan
    catalog: scorer_pb2.ListMethodsResponse
    explainer_asks_llm: bool
    baseline_explainer_version: str


def explanation_id(project: str, request_id: str) -> str:
    """The id of the explanation that a request makes: the same for every repeat."""
    seed = f"{project}\n{request_id}".encode()
    return f"e-{hashlib.sha256(seed).hexdigest()[:16]}"


class Planner:
    """Freezes plans against the services as they are."""

    def __init__(self, services: Services, default_llm_model: str = "") -> None:
        self._services = services
        self._default_llm_model = default_llm_model

    async def freeze(self, request: explanation_pb2.CreateExplanationRequest) -> Frozen:
        """The plan of a request.

        Raises:
            InvalidArgument: a field is wrong (FIELD_INVALID, FEATURE_OUT_OF_RANGE,
                EXPLAINER_UNKNOWN, METHOD_UNKNOWN).
            NotFound: no such SAE (SAE_NOT_FOUND).
            FailedPrecondition: INDEX_NOT_BUILT, LLM_NOT_CONFIGURED,
                PLAN_VERSION_UNSUPPORTED.
            Unimplemented: a method cannot be run here (UNSUPPORTED).
        """
        feature = names.parse_feature(request.feature, "feature")
        sae = await self._sae(feature)
        index = await self._index(request, sae, feature)
        explainer, entry, baseline = await self._explainer(request)
        catalog = await self._call(
            self._services.scorer.ListMethods, scorer_pb2.ListMethodsRequest()
        )
        plan = dossier_pb2.Plan(
            feature=feature.name,
            index=index,
            sae=sae,
            explainer=explainer,
            methods=freeze_methods(request, explainer, catalog, self._default_llm_model),
            thresholds=default_thresholds(),
            budget=freeze_budget(request.budget, entry.loop),
            prompt_fingerprint=entry.prompt_fingerprint,
            seed=request.seed,
            loop=entry.loop,
        )
        return Frozen(plan, catalog, entry.uses_llm, baseline)

    async def _sae(self, feature: names.FeatureRef) -> activation_pb2.Sae:
        request = activation_pb2.GetSaeRequest(name=feature.sae_name)
        response = await self._call(self._services.activation.GetSae, request)
        sae: activation_pb2.Sae = response.sae
        if feature.index >= sae.d_sae:
            raise InvalidArgument(
                f"{sae.name} has {sae.d_sae} features, so the index is at most {sae.d_sae - 1}",
                "feature",
                "FEATURE_OUT_OF_RANGE",
            )
        return sae

    async def _index(
        self,
        request: explanation_pb2.CreateExplanationRequest,
        sae: activation_pb2.Sae,
        feature: names.FeatureRef,
    ) -> str:
        index = request.index or sae.default_index
        if not index:
            raise FailedPrecondition(
                f"{sae.name} has no index; build one with CreateIndex", "INDEX_NOT_BUILT"
            )
        names.parse_index(index, "index")
        ask = activation_pb2.GetFeatureRequest(name=feature.name, index=index)
        await self._call(self._services.activation.GetFeature, ask)
        return index

    async def _explainer(
        self, request: explanation_pb2.CreateExplanationRequest
    ) -> tuple[agent_pb2.ExplainerOptions, agent_pb2.Explainer, str]:
        offered = await self._call(
            self._services.agent.ListExplainers, agent_pb2.ListExplainersRequest()
        )
        entries = {entry.name: entry for entry in offered.explainers}
        entry = entries.get(request.explainer.explainer)
        if entry is None:
            raise InvalidArgument(
                f"{request.explainer.explainer!r} is none of {', '.join(sorted(entries))}",
                "explainer.explainer",
                "EXPLAINER_UNKNOWN",
            )
        options = freeze_explainer(request, entry, self._default_llm_model)
        baseline = entries.get(_BASELINE_EXPLAINER)
        return options, entry, baseline.version if baseline is not None else ""

    async def _call(self, method: Callable[..., Awaitable[_R]], request: Any) -> _R:
        async with rpc_errors():
            return await method(request, timeout=RPC_SECONDS)


def freeze_budget(asked: dossier_pb2.Budget, loop: agent_pb2.LoopPolicy) -> dossier_pb2.Budget:
    """The budget with its defaults, the explainer's own before ours.

    Raises:
        InvalidArgument: a value is negative or above its limit.
    """
    for field, most in (
        ("max_round_count", budgets.MOST_ROUNDS),
        ("max_llm_token_count", 2**53),
        ("max_probe_count", 100_000),
    ):
        _check_range(getattr(asked, field), 0, most, f"budget.{field}")
    if asked.HasField("max_cost") and not 0 <= asked.max_cost < float("inf"):
        raise InvalidArgument("must be a number >= 0", "budget.max_cost")
    currency = asked.currency_code or "USD"
    if len(currency) != 3 or not (currency.isascii() and currency.isupper()):
        raise InvalidArgument("must be three capital letters (ISO 4217)", "budget.currency_code")
    frozen = dossier_pb2.Budget(
        max_round_count=asked.max_round_count or loop.round_count,
        max_llm_token_count=(
            asked.max_llm_token_count or loop.llm_token_count or budgets.DEFAULT_LLM_TOKENS
        ),
        max_probe_count=asked.max_probe_count or budgets.DEFAULT_PROBES,
        currency_code=currency,
    )
    if asked.HasField("max_cost"):
        frozen.max_cost = asked.max_cost
    return frozen


def default_thresholds() -> dossier_pb2.Thresholds:
    """The thresholds of method, sections 1 and 4.5."""
    outcomes = OutcomeThresholds()
    return dossier_pb2.Thresholds(
        active_share=outcomes.active_share,
        silent_share=outcomes.silent_share,
        required_rate=0.7,
        support_probability=0.9,
        refute_probability=0.1,
        ambiguity_share=outcomes.ambiguity_share,
    )


def freeze_explainer(
    request: explanation_pb2.CreateExplanationRequest,
    entry: agent_pb2.Explainer,
    default_llm_model: str,
) -> agent_pb2.ExplainerOptions:
    """The explainer's options with its version and defaults.

    Raises:
        InvalidArgument: a count is out of range.
        FailedPrecondition: PLAN_VERSION_UNSUPPORTED, LLM_NOT_CONFIGURED.
    """
    asked = request.explainer
    _check_version(asked.version, entry.version, entry.name)
    for field, most in (
        ("hypothesis_count", 12),
        ("positive_probe_count", 24),
        ("negative_probe_count", 24),
    ):
        _check_range(getattr(asked, field), 0, most, f"explainer.{field}")
    frozen = agent_pb2.ExplainerOptions(
        explainer=entry.name,
        version=entry.version,
        hypothesis_count=asked.hypothesis_count or entry.loop.hypothesis_count,
        positive_probe_count=asked.positive_probe_count or entry.loop.positive_probe_count,
        negative_probe_count=asked.negative_probe_count or entry.loop.negative_probe_count,
        seed=asked.seed or request.seed,
    )
    if asked.hypothesis_count and not entry.loop.hypothesis_count:
        raise InvalidArgument(f"{entry.name} makes none", "explainer.hypothesis_count")
    _check_given(asked, entry.name)
    if asked.HasField("given_explanation"):
        frozen.given_explanation.CopyFrom(asked.given_explanation)
    if entry.uses_llm:
        if not entry.available:
            raise FailedPrecondition(
                f"{entry.name} asks a language model and none is configured", "LLM_NOT_CONFIGURED"
            )
        frozen.llm.CopyFrom(_freeze_llm(asked.llm, default_llm_model, "explainer.llm"))
    return frozen


def _check_given(asked: agent_pb2.ExplainerOptions, explainer: str) -> None:
    """An explanation to pass on is for the explainer that does, which needs it."""
    given, field = asked.given_explanation, "explainer.given_explanation"
    if (explainer == _IMPORT) != asked.HasField("given_explanation"):
        raise InvalidArgument(f"is for {_IMPORT!r}, which needs it", field)
    if explainer == _IMPORT and not (given.label.strip() or given.description.strip()):
        raise InvalidArgument("has neither a label nor a description", field)


def has_pattern(explainer: agent_pb2.ExplainerOptions) -> bool:
    """Whether the explanation will predict by itself: `lexical` writes patterns, and an
    imported explanation may carry one."""
    return explainer.explainer == _BASELINE_EXPLAINER or explainer.given_explanation.HasField(
        "pattern"
    )


def freeze_methods(
    request: explanation_pb2.CreateExplanationRequest,
    explainer: agent_pb2.ExplainerOptions,
    catalog: scorer_pb2.ListMethodsResponse,
    default_llm_model: str = "",
) -> list[scorer_pb2.MethodOptions]:
    """The methods with their versions, judges and seeds; those that run by default where
    the request names none.

    Raises:
        InvalidArgument: METHOD_UNKNOWN, FIELD_INVALID.
        Unimplemented: a method cannot be run here (UNSUPPORTED).
        FailedPrecondition: PLAN_VERSION_UNSUPPORTED, LLM_NOT_CONFIGURED.
    """
    if len(request.methods) > MOST_METHODS:
        raise InvalidArgument(f"at most {MOST_METHODS} methods", "methods")
    judge = "pattern" if has_pattern(explainer) else "llm"
    asked = list(request.methods) or [
        scorer_pb2.MethodOptions(method=entry.name, judge=judge)
        for entry in catalog.methods
        if entry.by_default and not entry.unavailable_reason
    ]
    entries = {entry.name: entry for entry in catalog.methods}
    frozen = []
    for place, options in enumerate(asked):
        field = f"methods[{place}]"
        entry = entries.get(options.method)
        if entry is None:
            raise InvalidArgument(
                f"{options.method!r} is none of {', '.join(sorted(entries))}",
                f"{field}.method",
                "METHOD_UNKNOWN",
            )
        model = explainer.llm.model or default_llm_model
        frozen.append(_freeze_method(request, model, options, entry, field))
        # Only what asks a model has texts of one to tell from the explainer's own.
        if options.judge == "llm" and entry.writes_texts:
            frozen[-1].explainer_model = explainer.llm.model
    return frozen


def _freeze_method(
    request: explanation_pb2.CreateExplanationRequest,
    default_llm_model: str,
    asked: scorer_pb2.MethodOptions,
    entry: scorer_pb2.Method,
    field: str,
) -> scorer_pb2.MethodOptions:
    if entry.unavailable_reason:
        raise Unimplemented(f"{entry.name}: {entry.unavailable_reason}")
    if asked.judge not in entry.judges:
        names = " or ".join(f"`{name}`" for name in entry.judges)
        raise InvalidArgument(f"{entry.name} is judged by {names}", f"{field}.judge")
    _check_version(asked.version, entry.version, entry.name)
    frozen = scorer_pb2.MethodOptions(
        method=entry.name,
        version=entry.version,
        judge=asked.judge,
        seed=asked.seed or request.seed,
    )
    if asked.judge == "llm":
        frozen.llm.CopyFrom(_freeze_llm(asked.llm, default_llm_model, f"{field}.llm"))
    if asked.HasField("writer"):
        if asked.judge != "llm" or not entry.writes_texts:
            why = "only for methods that have texts written by the judge `llm`"
            raise InvalidArgument(why, f"{field}.writer")
        frozen.writer.CopyFrom(_freeze_llm(asked.writer, "", f"{field}.writer"))
    return frozen


def _freeze_llm(
    asked: usage_pb2.LlmOptions, default_model: str, field: str
) -> usage_pb2.LlmOptions:
    if asked.HasField("temperature") and not 0 <= asked.temperature <= 2:
        raise InvalidArgument("must be in [0, 2]", f"{field}.temperature")
    if asked.HasField("max_output_token_count"):
        _check_range(asked.max_output_token_count, 16, 65_536, f"{field}.max_output_token_count")
    frozen = usage_pb2.LlmOptions()
    frozen.CopyFrom(asked)
    frozen.model = asked.model or default_model
    if not frozen.model:
        raise FailedPrecondition(
            f"name a model in {field}.model or configure one", "LLM_NOT_CONFIGURED"
        )
    return frozen


def _check_range(value: int, least: int, most: int, field: str) -> None:
    if not least <= value <= most:
        raise InvalidArgument(f"must be in [{least}, {most}], not {value}", field)


def _check_version(asked: str, offered: str, what: str) -> None:
    if asked and asked != offered:
        raise FailedPrecondition(
            f"{what} is offered in version {offered}, not {asked}", "PLAN_VERSION_UNSUPPORTED"
        )
