"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping

from saexplain.scorer.v1.scorer_pb2 import Method, MethodOptions
from services.common.errors import FailedPrecondition, InvalidArgument, Unimplemented
from services.scorer.methods.autointerp import Autointerp
from services.scorer.methods.base import ScoringMethod
from services.scorer.methods.clarity import Clarity
from services.scorer.methods.corpus import Corpus
from services.scorer.methods.detection import Detection
from services.scorer.methods.embedding import Embedding
from services.scorer.methods.example_embedding import ExampleEmbedding
from services.scorer.methods.fuzzing import Fuzzing
from services.scorer.methods.generative import Generative
from services.scorer.methods.input import Input
from services.scorer.methods.intruder import Intruder
from services.scorer.methods.ladder import Ladder
from services.scorer.methods.predictive import Predictive
from services.scorer.methods.purity import Purity
from services.scorer.methods.responsiveness import Responsiveness
from services.scorer.methods.simulation import Simulation
from services.scorer.methods.unavailable import UNAVAILABLE

METHODS: Mapping[str, ScoringMethod] = {
    method.declaration.name: method
    for method in (
        Autointerp(),
        Clarity(),
        Corpus(),
        Detection(),
        Embedding(),
        ExampleEmbedding(),
        Fuzzing(),
        Generative(),
        Input(),
        Intruder(),
        Ladder(),
        Predictive(),
        Purity(),
        Responsiveness(),
        Simulation(),
    )
}
"""The methods that can be run."""


NOT_CONFIGURED = (
    "no embedding model here: set SAEXPLAIN_SCORER_EMBEDDING_MODEL beside the provider and "
    "the database of the language model"
)
"""Why the methods that embed cannot be run."""

EMBEDDING_METHODS = frozenset({"embedding", "example_embedding"})
"""Those that ask an embedding model."""


def declarations(embeds: bool) -> list[Method]:
    """All known methods, those that cannot be run too, ordered by name. `embeds`: whether
    there is an embedding model."""
    known = [*UNAVAILABLE.values()]
    for name, method in METHODS.items():
        declared = Method()
        declared.CopyFrom(method.declaration)
        if name in EMBEDDING_METHODS and not embeds:
            declared.unavailable_reason = NOT_CONFIGURED
        known.append(declared)
    return sorted(known, key=lambda d: d.name)


def find(options: MethodOptions) -> ScoringMethod:
    """The method that the options name, in the version that they froze.

    Raises:
        InvalidArgument: METHOD_UNKNOWN.
        Unimplemented: the method cannot be run here.
        FailedPrecondition: PLAN_VERSION_UNSUPPORTED.
    """
    if options.method in UNAVAILABLE:
        raise Unimplemented(
            f"`{options.method}` {UNAVAILABLE[options.method].unavailable_reason}", "UNSUPPORTED"
        )
    method = METHODS.get(options.method)
    if method is None:
        names = ", ".join(sorted(METHODS))
        raise InvalidArgument(
            f"no method {options.method!r}; there are {names}", "options.method", "METHOD_UNKNOWN"
        )
    present = method.declaration.version
    if options.version not in ("", present):
        raise FailedPrecondition(
            f"`{options.method}` is at version {present}, the plan froze {options.version!r}",
            "PLAN_VERSION_UNSUPPORTED",
            metadata={"present_version": present, "plan_version": options.version},
        )
    return method
