"""A whole dossier, made up, complete and consistent."""

from __future__ import annotations

from saexplain.agent.v1 import agent_pb2 as agent
from saexplain.explanation.v1 import dossier_pb2 as dossier_pb
from saexplain.explanation.v1.explanation_pb2 import DossierBundle
from services.cli.testing.evidence import EvidenceParts
from services.cli.testing.experiments import ExperimentParts
from services.cli.testing.provenance import ProvenanceParts
from services.cli.testing.scores import ScoreParts


class DossierBuilder(EvidenceParts, ExperimentParts, ScoreParts, ProvenanceParts):
    """Builds one `DossierBundle`; the same arguments give equal messages."""

    def build(self) -> DossierBundle:
        """The whole bundle of a run that went well."""
        hypotheses = self._hypotheses()
        found = self._explanation()
        dossier = dossier_pb.Dossier(
            digest="d1" * 32,
            plan=self._plan(),
            facts=self._facts(),
            evidence=agent.Evidence(
                facts=self._facts(),
                windows=self._evidence(),
                vocabulary_probes=self._vocabulary(),
                ceiling=agent.Ceiling(active_share=0.92, exemplar_count=24, tokens_each_side=5),
            ),
            hypotheses=hypotheses,
            rounds=[self._round(number, hypotheses) for number in (1, 2)],
            stop_reason=dossier_pb.STOP_REASON_DECIDED,
            explanation=found,
            results=self._results(),
            ceiling=0.92,
            candidates=[
                dossier_pb.Candidate(round=1, explanation=found, select_score=0.61),
                dossier_pb.Candidate(round=2, explanation=found, select_score=0.72, chosen=True),
            ],
            explanation_digest="e2" * 32,
        )
        return DossierBundle(dossier=dossier, run=self._run())
