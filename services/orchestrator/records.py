"""What crosses Temporal's boundary: small frozen pydantic records and references.

Fields are only ever appended, with defaults: running workflows hold older payloads.
Unset fields are left out of the payload, which keeps histories small.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.common.artifact_ref import ArtifactRef

__all__ = [
    "ArtifactRef",
    "BuildIndexInput",
    "BuildIndexOutput",
    "EndCall",
    "ExplainInput",
    "ExplainOutput",
    "IndexCall",
    "IndexPlan",
    "LoopPlan",
    "MethodPlan",
    "StepCall",
    "StepResult",
]


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True)


class MethodPlan(Record):
    """A scoring method as far as workflow code needs to know it.

    Attributes:
        name: of the method, such as `corpus`.
        asks_llm: True if its judge and writer are a language model.
    """

    name: str
    asks_llm: bool = False


class LoopPlan(Record):
    """What workflow code needs of the `LoopPolicy` that a plan froze.

    Attributes:
        hypothesis_count: 0 for an explainer that makes none.
        revises_last_round: whether a revision follows the last round as well.
        candidate_count: explanations that compete at most; 0 for no limit.
        candidate_token_count: tokens that independent ones may take; 0 for no limit.
    """

    hypothesis_count: int = 4
    revises_last_round: bool = False
    candidate_count: int = 0
    candidate_token_count: int = 0


class ExplainInput(Record):
    """A frozen run: input of the workflows ExplainFeature and ScoreExplanation.

    Attributes:
        explanation: `projects/{project}/explanations/{id}`.
        plan: artifact with the `explanation/v1.Plan`.
        methods_catalog: artifact with the `ListMethodsResponse` the plan was frozen on.
        methods: the plan's methods, in its order.
        explainer_asks_llm: True if the explainer asks a language model.
        max_round_count: rounds at most, >= 1.
        baseline_explainer_version: version of `lexical` that explains the density-matched
            other feature; empty where it is not offered, then that baseline is absent.
        loop: how the loop around the explainer runs.
        fixed: fragment of a dossier with the explanation that is only to be scored: input
            of the workflow ScoreExplanation; absent for one that explains.
    """

    explanation: str
    plan: ArtifactRef
    methods_catalog: ArtifactRef
    methods: tuple[MethodPlan, ...]
    explainer_asks_llm: bool
    max_round_count: int
    baseline_explainer_version: str = ""
    loop: LoopPlan = LoopPlan()
    fixed: ArtifactRef | None = None


class ExplainOutput(Record):
    """How a run ended well.

    Attributes:
        dossier: artifact with the `Dossier`.
        digest: the dossier's own digest.
    """

    dossier: ArtifactRef
    digest: str


class StepCall(Record):
    """Input of a step's activity.

    Attributes:
        explanation: name of the explanation.
        plan: artifact with the plan.
        inputs: artifacts the step reads, by role.
        round: round of the loop, >= 0.
        ordinal: tells apart calls of one step and round: a method, a chunk, a candidate.
        chunk: which chunk of judging, >= 0.
        used: what the run has spent before the step.
        note: what a control step has to write down, such as a stop reason.
        failures: methods that could not be run, `{method}` to `{reason}: {message}`.
        lists: artifacts of which there are several, by role, in order.
        backend: what computed the activations.
        retry_count: attempts beyond the first so far.
        numbers: the round of each artifact of a list.
    """

    explanation: str
    plan: ArtifactRef
    inputs: dict[str, ArtifactRef] = Field(default_factory=dict)
    round: int = 0
    ordinal: int = 0
    chunk: int = 0
    used: Spending | None = None
    note: str = ""
    failures: dict[str, str] = Field(default_factory=dict)
    lists: dict[str, tuple[ArtifactRef, ...]] = Field(default_factory=dict)
    backend: str = ""
    retry_count: int = 0
    numbers: tuple[int, ...] = ()


class Spending(Record):
    """What a run has spent.

    Attributes:
        llm_token_count: tokens of language models, all kinds.
        cost: money, as far as prices are known.
        probe_count: measured probes.
        last_round_token_count: tokens that the last whole round took.
        synthesis_token_count: tokens to keep for a synthesis.
    """

    llm_token_count: int = 0
    cost: float = 0.0
    probe_count: int = 0
    last_round_token_count: int = 0
    synthesis_token_count: int = 0


class StepResult(Record):
    """What a step's activity says about what it stored.

    Attributes:
        artifact: what the step stored.
        state: the `RunState` after the step, where it changes it.
        count: what the step counts: hypotheses, probes, texts, exemplars.
        item_count: items to judge.
        has_pattern: whether the explanation carries a pattern.
        has_explanation: whether there is an explanation that can be scored.
        stop: name of a `StopReason` without its prefix; empty to go on.
        candidate: what tells the standing hypotheses apart from other rounds'.
        other_feature: a density-matched other feature.
        llm_token_count: tokens of language models the step took.
        cost: money the step took, as far as prices are known.
        attempt: which attempt succeeded, from 1.
        backend: what computed activations.
        digest: digest of what was fixed.
    """

    artifact: ArtifactRef | None = None
    state: ArtifactRef | None = None
    count: int = 0
    has_pattern: bool = False
    has_explanation: bool = False
    stop: str = ""
    candidate: str = ""
    other_feature: str = ""
    llm_token_count: int = 0
    cost: float = 0.0
    attempt: int = 1
    backend: str = ""
    digest: str = ""
    item_count: int = 0


class EndCall(Record):
    """Input of the activity that writes down an end without a result.

    Attributes:
        explanation: name of the explanation.
        cancelled: True for an end by its owner, False for a failure.
        reason: name of an `ErrorReason`.
        message: for people.
        step: the step that failed.
    """

    explanation: str
    cancelled: bool
    reason: str
    message: str
    step: str = ""


class BuildIndexInput(Record):
    """Input of the workflow BuildIndex.

    Attributes:
        index: `projects/{project}/indexes/{index}`.
        config: canonical JSON of the `IndexConfig`.
    """

    index: str
    config: str


class IndexPlan(Record):
    """What PlanIndex answered."""

    key: str
    shard_count: int
    token_count: int
    built: bool


class IndexCall(Record):
    """Input of an activity of BuildIndex."""

    index: str
    config: str
    key: str = ""
    shard: int = 0
    shard_count: int = 0
    cancelled: bool = False
    reason: str = ""
    message: str = ""
    step: str = ""


class BuildIndexOutput(Record):
    """How a build ended well."""

    key: str
    artifact_fingerprint: str


StepCall.model_rebuild()
