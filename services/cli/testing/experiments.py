"""Hypotheses, probes and the explanation of a made feature."""

from __future__ import annotations

from collections.abc import Sequence

from saexplain.agent.v1 import agent_pb2 as agent
from saexplain.common.v1 import experiment_pb2 as experiment
from saexplain.common.v1 import explanation_pb2 as explanation
from saexplain.common.v1 import pattern_pb2 as pattern_pb
from saexplain.explanation.v1 import dossier_pb2 as dossier_pb
from services.cli.testing.sketch import REFERENCE_MAX, TEMPLATES, Parts, tokens_of


class ExperimentParts(Parts):
    """What the explainer would have done."""

    def _hypotheses(self) -> list[experiment.Hypothesis]:
        listed = ", ".join(self._sketch.triggers)
        rows = (
            ("h1", f"The words {listed}", experiment.HYPOTHESIS_STATUS_SUPPORTED, 12, 11, 12, 12),
            ("h2", "Any adverb of degree", experiment.HYPOTHESIS_STATUS_REFUTED, 6, 2, 6, 6),
            ("h3", "A word before a numeral", experiment.HYPOTHESIS_STATUS_SUPERSEDED, 6, 4, 6, 3),
        )
        return [
            experiment.Hypothesis(
                id=name,
                statement=statement + self._hostile,
                kind=experiment.HYPOTHESIS_KIND_LEXICAL,
                status=status,
                revision=1,
                claimed_windows=["indexes/1f0c9a7be2d34411/windows/0"],
                rationale="Most exemplars peak there." + self._hostile,
                rival=name == "h2",
                parents=["h3"] if name == "h1" else [],
                pattern=self._pattern() if name == "h1" else None,
                tally=experiment.HypothesisTally(
                    positive_count=positive,
                    positive_passed_count=positive_passed,
                    negative_count=negative,
                    negative_passed_count=negative_passed,
                    coverage_probability=0.97,
                    rejection_probability=0.99,
                ),
            )
            for name, statement, status, positive, positive_passed, negative, negative_passed in rows  # noqa: E501
        ]

    def _round(self, number: int, hypotheses: Sequence[experiment.Hypothesis]) -> dossier_pb.Round:
        results = [
            self._result(number, ordinal, hypothesis.id)
            for ordinal, hypothesis in enumerate([*hypotheses, *hypotheses[:2]] * 2)
        ]
        return dossier_pb.Round(
            round=number,
            results=results,
            hypotheses=hypotheses,
            refused_probes=[
                agent.RefusedProbe(
                    text="almost" + self._hostile, reason="repeats_probe", hypothesis_id="h1"
                )
            ],
            operations=[
                agent.RevisionOperation(
                    kind=agent.REVISION_KIND_REFINE,
                    sources=["h3"],
                    targets=["h1"],
                    rationale="Numerals are not needed." + self._hostile,
                )
            ],
        )

    def _result(self, number: int, ordinal: int, hypothesis: str) -> experiment.ProbeResult:
        positive = ordinal % 2 == 0
        words = self._sketch.triggers if positive else self._sketch.fillers
        fires = positive and ordinal % 8 != 4
        word = words[ordinal % len(words)]
        text = TEMPLATES[(ordinal + number) % len(TEMPLATES)].format(word) + self._hostile
        span = tokens_of(text)
        values = self._activations(span, word if fires else "")
        peak = max(range(len(values)), key=values.__getitem__)
        outcome = _outcome(values[peak])
        wanted = experiment.PROBE_OUTCOME_ACTIVE if positive else experiment.PROBE_OUTCOME_SILENT
        return experiment.ProbeResult(
            probe=experiment.Probe(
                id=f"p{number}.{ordinal}",
                hypothesis_id=hypothesis,
                hypothesis_revision=1,
                text=text,
                role=(
                    experiment.PROBE_ROLE_POSITIVE if positive else experiment.PROBE_ROLE_BOUNDARY
                ),
                predicted_active=positive,
                rationale="A new context." + self._hostile,
                round=number,
            ),
            outcome=outcome,
            tokens=span,
            activations=values,
            max_activation=values[peak],
            peak_index=peak,
            absorbed_by="saes/demo/features/77" if positive and not fires else "",
            passed=outcome == wanted,
        )

    def _explanation(self) -> explanation.Explanation:
        listed = ", ".join(f"“{word}”" for word in self._sketch.triggers)
        return explanation.Explanation(
            status=explanation.EXPLANATION_STATUS_EXPLAINED,
            label=self._sketch.label + self._hostile,
            description=f"Fires on {listed} and their capitalised forms, whatever follows; "
            "not on other adverbs." + self._hostile,
            parts=[
                explanation.ExplanationPart(
                    statement=f"The words {listed}" + self._hostile,
                    window_citations=["indexes/1f0c9a7be2d34411/windows/0"],
                    probe_citations=["p1.0", "p2.2"],
                    recall=0.81,
                    precision=0.93,
                )
            ],
            pattern=self._pattern(),
        )

    def _pattern(self) -> pattern_pb.Pattern:
        rules = [
            pattern_pb.PatternRule(
                token=pattern_pb.TokenMatcher(
                    literal=f" {word}".encode(), ignore_case=True, ignore_leading_space=True
                ),
                strength=0.9 - i / 10,
                support=40 - 9 * i,
            )
            for i, word in enumerate(self._sketch.triggers)
        ]
        part = pattern_pb.PatternPart(label=self._sketch.label + self._hostile, rules=rules)
        return pattern_pb.Pattern(parts=[part])


def _outcome(activation: float) -> experiment.ProbeOutcome.ValueType:
    share = activation / REFERENCE_MAX
    if share >= 0.5:
        return experiment.PROBE_OUTCOME_ACTIVE
    return experiment.PROBE_OUTCOME_WEAK if share >= 0.1 else experiment.PROBE_OUTCOME_SILENT
