"""The explainers that a service can run, found by name and version."""

from __future__ import annotations

from collections.abc import Iterable

from saexplain.agent.v1 import agent_pb2 as pb
from services.agent.explainers.base import Explainer
from services.common.errors import FailedPrecondition, InvalidArgument


class ExplainerRegistry:
    """Explainers by name; one version of each."""

    def __init__(self, explainers: Iterable[Explainer]) -> None:
        self._by_name: dict[str, Explainer] = {}
        for explainer in explainers:
            if explainer.name in self._by_name:
                raise ValueError(f"two explainers are called {explainer.name!r}")
            self._by_name[explainer.name] = explainer

    def describe(self) -> list[pb.Explainer]:
        """All of them, ordered by name."""
        return [
            pb.Explainer(
                name=explainer.name,
                version=explainer.version,
                description=explainer.description,
                uses_llm=explainer.uses_llm,
                prompt_fingerprint=explainer.prompt_fingerprint,
                available=explainer.available,
                loop=explainer.loop,
            )
            for _, explainer in sorted(self._by_name.items())
        ]

    def find(self, options: pb.ExplainerOptions) -> Explainer:
        """The explainer that a request asks for.

        Raises:
            InvalidArgument: EXPLAINER_UNKNOWN.
            FailedPrecondition: PLAN_VERSION_UNSUPPORTED for another version than the
                present one, LLM_NOT_CONFIGURED where it lacks its language model.
        """
        explainer = self._by_name.get(options.explainer)
        if explainer is None:
            known = ", ".join(sorted(self._by_name))
            raise InvalidArgument(
                f"no explainer {options.explainer[:80]!r}; there are: {known}",
                "options.explainer",
                "EXPLAINER_UNKNOWN",
            )
        if options.version and options.version != explainer.version:
            raise FailedPrecondition(
                f"the plan froze version {options.version[:40]!r} of {explainer.name}, "
                f"here is {explainer.version!r}",
                "PLAN_VERSION_UNSUPPORTED",
                metadata={"explainer": explainer.name, "version": explainer.version},
            )
        if not explainer.available:
            raise FailedPrecondition(
                f"{explainer.name} asks a language model and this service has none: set "
                "OPENAI_API_KEY or OPENAI_BASE_URL, and SAEXPLAIN_DATABASE_URL",
                "LLM_NOT_CONFIGURED",
            )
        return explainer
