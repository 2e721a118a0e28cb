"""Dossiers for tests and for looking at the report: made up, complete and consistent.

A made feature fires on given words. Sentences, activations, probes and scores follow from
a seed, so that two calls with the same arguments give equal messages.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from saexplain.activation.v1.activation_pb2 import NumericsContract, Sae, WindowList
from saexplain.agent.v1 import agent_pb2 as agent
from saexplain.common.v1 import experiment_pb2 as experiment
from saexplain.common.v1 import explanation_pb2 as explanation
from saexplain.common.v1 import feature_pb2 as feature_pb
from saexplain.common.v1 import pattern_pb2 as pattern_pb
from saexplain.common.v1 import score_pb2 as score_pb
from saexplain.common.v1 import usage_pb2 as usage_pb
from saexplain.common.v1 import window_pb2 as window_pb
from saexplain.common.v1.text_pb2 import TokenSpan, WeightedToken
from saexplain.explanation.v1 import dossier_pb2 as dossier_pb
from saexplain.explanation.v1.explanation_pb2 import DossierBundle
from saexplain.scorer.v1.scorer_pb2 import MethodOptions

REFERENCE_MAX = 12.5
_TOKEN = re.compile(r" ?[^\W\d_]+| ?\d|\s|.", re.DOTALL)
_TEMPLATES = (
    "It was {} certain that the ship would not leave the harbour before the tide turned.",
    "The committee had {} finished,\nwhen the lights went out in the old hall.",
    "She answered {} at once, and nobody in the room — not even Karl — objected.",
    "    return {}(value)  # the caller keeps the lock",
    "He had walked {} ten miles; the café at the corner was still open.",
    "Nothing remained of the village but a {} ruined wall and two apple trees.",
)


@dataclass(frozen=True)
class FeatureSketch:
    """What a made feature is.

    Attributes:
        index: its index in the SAE.
        label: label of its explanation.
        triggers: words on which it fires, strongest first.
        fillers: words like them on which it does not.
    """

    index: int = 1843
    label: str = "words for “not quite”"
    triggers: tuple[str, ...] = ("almost", "nearly", "virtually")
    fillers: tuple[str, ...] = ("surely", "plainly", "quietly")


def tokens_of(text: str) -> TokenSpan:
    """The text cut into words with their leading space; ids are positions in the text."""
    pieces = _TOKEN.findall(text)
    ends, at = [], 0
    for piece in pieces:
        at += len(piece.encode())
        ends.append(at)
    return TokenSpan(
        token_ids=range(len(pieces)),
        token_bytes=[piece.encode() for piece in pieces],
        byte_begins=[0, *ends[:-1]],
        byte_ends=ends,
    )


class DossierBuilder:
    """Builds one `DossierBundle`, part by part.

    Args:
        sketch: the feature.
        seed: of everything made up.
        explainer: `lexical`, or `sage` with the usage of a language model.
        hostile: put into every free text, such as markup that must not come alive.
    """

    def __init__(
        self,
        sketch: FeatureSketch | None = None,
        *,
        seed: int = 0,
        explainer: str = "lexical",
        hostile: str = "",
    ) -> None:
        self._sketch = sketch or FeatureSketch()
        self._rng = random.Random(seed)
        self._explainer = explainer
        self._hostile = hostile
        self._name = f"saes/demo/features/{self._sketch.index}"

    def build(self) -> DossierBundle:
        """The whole bundle of a run that went well."""
        hypotheses = self._hypotheses()
        found = self._explanation()
        dossier = dossier_pb.Dossier(
            digest="d1" * 32,
            plan=self._plan(),
            facts=self._facts(),
            evidence=agent.Evidence(facts=self._facts(), windows=self._evidence()),
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

    def window(self, ordinal: int, word: str, *, fires: bool) -> window_pb.Window:
        """A window around the word; its last token is a newline now and then."""
        text = self._hostile + " " + _TEMPLATES[ordinal % len(_TEMPLATES)].format(word)
        span = tokens_of(text.lstrip())
        activations = self._activations(span, word if fires else "")
        return window_pb.Window(
            name=f"indexes/1f0c9a7be2d34411/windows/{ordinal}",
            document=f"doc-{ordinal}{self._hostile}",
            source=f"source-{ordinal % 7}",
            kind=("prose", "dialogue", "code")[ordinal % 3],
            split=window_pb.SPLIT_EXPLAIN,
            left_context=tokens_of(" and so on, until the end."),
            tokens=span,
            activations=activations,
            max_activation=max(activations),
            inclusion_probability=1.0,
        )

    def _activations(self, span: TokenSpan, word: str) -> list[float]:
        values = []
        for token in span.token_bytes:
            hit = bool(word) and token.decode().strip() == word
            share = self._rng.uniform(0.55, 1.0) if hit else 0.0
            if not hit and self._rng.random() < 0.06:
                share = self._rng.uniform(0.02, 0.3)
            values.append(share * REFERENCE_MAX)
        return values

    def _evidence(self) -> list[WindowList]:
        strategies = (
            (window_pb.WINDOW_STRATEGY_TOP, self._sketch.triggers, True, 8),
            (window_pb.WINDOW_STRATEGY_QUANTILE, self._sketch.triggers, True, 5),
            (window_pb.WINDOW_STRATEGY_NEAR_MISS, self._sketch.fillers, False, 4),
        )
        lists = []
        for base, (strategy, words, fires, count) in enumerate(strategies):
            windows = [
                self.window(base * 100 + i, words[i % len(words)], fires=fires)
                for i in range(count)
            ]
            windows.sort(key=lambda window: -window.max_activation)
            selection = window_pb.WindowSelection(
                strategy=strategy, split=window_pb.SPLIT_EXPLAIN, count=count
            )
            lists.append(WindowList(selection=selection, windows=windows))
        return lists

    def _facts(self) -> feature_pb.FeatureFacts:
        edges = [REFERENCE_MAX * 1.1 * i / 24 for i in range(25)]
        counts = [int(90_000 * 0.72**i) + (40 if 12 < i < 20 else 0) for i in range(24)]
        splits = (
            (window_pb.SPLIT_EXPLAIN, 26_000, 412, 180, 812_000),
            (window_pb.SPLIT_SELECT, 10_400, 166, 71, 326_000),
            (window_pb.SPLIT_HELDOUT, 15_500, 251, 109, 489_000),
        )
        token = TokenSpan(token_bytes=[b" more", b" impossible", b"\n", b" every", b"\xe2\x80"])
        return feature_pb.FeatureFacts(
            feature=self._name,
            density=0.00041,
            max_activation=REFERENCE_MAX * 1.08,
            reference_max=REFERENCE_MAX,
            quantiles=[
                feature_pb.ActivationQuantile(probability=p, activation=a)
                for p, a in ((0.5, 0.9), (0.9, 4.4), (0.99, 9.8))
            ],
            decoder_norm=1.02,
            promoted_tokens=[
                WeightedToken(token_id=i, token_bytes=b, weight=0.4 - i / 20)
                for i, b in enumerate(token.token_bytes)
            ],
            suppressed_tokens=[WeightedToken(token_id=9, token_bytes=b" only", weight=-0.2)],
            neighbors=[
                feature_pb.FeatureNeighbor(feature="saes/demo/features/77", cosine=0.44),
                feature_pb.FeatureNeighbor(feature="saes/demo/features/901", cosine=0.31),
            ],
            stratum=feature_pb.FEATURE_STRATUM_ELIGIBLE,
            splits=[
                feature_pb.SplitFacts(
                    split=split,
                    window_count=windows,
                    active_window_count=active,
                    document_count_above_tau=documents,
                    token_count=tokens,
                )
                for split, windows, active, documents, tokens in splits
            ],
            histogram=[
                feature_pb.HistogramBin(low=low, high=high, count=count)
                for low, high, count in zip(edges, edges[1:], counts, strict=False)
            ],
            density_matched_feature="saes/demo/features/2210",
        )

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
        text = _TEMPLATES[(ordinal + number) % len(_TEMPLATES)].format(word) + self._hostile
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

    def _results(self) -> list[score_pb.MethodResult]:
        corpus = [
            self._score("corpus", "f1", 0.74, (0.0, 0.02, 0.35, 0.71)),
            self._score("corpus", "pearson", 0.69, (None, 0.01, 0.31, 0.73)),
            self._score("corpus", "recall", 0.83, (1.0, 0.04, 0.24, 0.8), insensitive=True),
        ]
        generative = self._score("generative", "share_active", 0.9, (None, None, None, None))
        generative.split = window_pb.SPLIT_UNSPECIFIED
        generative.invalid_count = 2
        undefined = score_pb.Score(
            method="predictive",
            metric="pearson_mean",
            status=score_pb.SCORE_STATUS_UNDEFINED,
            status_reason="fewer than three HELDOUT exemplars" + self._hostile,
            estimator_version="1",
            judge="pattern",
        )
        rows = [
            score_pb.ScoreRow(
                item=f"g{i}", predicted=0.8, measured=0.7, weight=1.0, text="x" + self._hostile
            )
            for i in range(3)
        ]
        return [
            score_pb.MethodResult(method="corpus", scores=corpus),
            score_pb.MethodResult(method="generative", scores=[generative], rows=rows),
            score_pb.MethodResult(method="predictive", scores=[undefined]),
        ]

    def _score(
        self,
        method: str,
        metric: str,
        value: float,
        baselines: tuple[float | None, ...],
        *,
        insensitive: bool = False,
    ) -> score_pb.Score:
        names = ("constant", "other_feature", "top_token", "token_table")
        score = score_pb.Score(
            method=method,
            metric=metric,
            value=value,
            interval=score_pb.Interval(
                low=value - 0.06, high=value + 0.05, level=0.95, kind="bootstrap_document"
            ),
            positive_count=109,
            negative_count=600,
            failed_count=3,
            status=score_pb.SCORE_STATUS_OK,
            estimator_version="1",
            judge="pattern" if self._explainer == "lexical" else "gpt-5-mini",
            seed=11,
            split=window_pb.SPLIT_HELDOUT,
            insensitive=insensitive,
            baselines=[
                score_pb.Baseline(
                    name=name,
                    value=number,
                    undefined_reason="" if number is not None else "no variance",
                )
                for name, number in zip(names, baselines, strict=True)
            ],
        )
        top, table = baselines[2], baselines[3]
        if top is not None and table is not None:
            score.gap_closed = (value - top) / (table - top)
        return score

    def _plan(self) -> dossier_pb.Plan:
        return dossier_pb.Plan(
            feature=self._name,
            index="projects/default/indexes/1f0c9a7be2d34411",
            sae=Sae(
                name="saes/demo",
                model="SmolLM2-135M-Instruct" + self._hostile,
                hook_point="blocks.8.hook_resid_post",
                architecture="topk",
                d_in=576,
                d_sae=4608,
                numerics=NumericsContract(
                    prepend_bos=True,
                    bos_token_id=1,
                    unscored_position_count=1,
                    max_token_count=128,
                    normalize_activations="none",
                    compute_dtype="float32",
                    model_fingerprint="a1" * 32,
                    sae_fingerprint="b2" * 32,
                    tokenizer_fingerprint="c3" * 32,
                    relative_tolerance=1e-4,
                ),
            ),
            explainer=agent.ExplainerOptions(explainer=self._explainer, version="1", seed=11),
            methods=[
                MethodOptions(method=name, version="1", judge="pattern", seed=11)
                for name in ("corpus", "generative", "predictive")
            ],
            thresholds=dossier_pb.Thresholds(
                active_share=0.5,
                silent_share=0.1,
                required_rate=0.7,
                support_probability=0.9,
                refute_probability=0.1,
                ambiguity_share=1e-4,
            ),
            budget=dossier_pb.Budget(
                max_round_count=4, max_llm_token_count=200_000, max_probe_count=400
            ),
            prompt_fingerprint="" if self._explainer == "lexical" else "f4" * 32,
            seed=11,
        )

    def _run(self) -> dossier_pb.RunRecord:
        usage = usage_pb.LlmUsage()
        if self._explainer != "lexical":
            call = usage_pb.LlmCall(
                step="propose_hypotheses",
                model="gpt-5-mini",
                outcome=usage_pb.LLM_CALL_OUTCOME_OK,
                prompt_token_count=5200,
                completion_token_count=840,
            )
            usage = usage_pb.LlmUsage(
                prompt_token_count=20_800,
                cached_prompt_token_count=9_000,
                completion_token_count=3_360,
                reasoning_token_count=900,
                request_count=4,
                failed_request_count=1,
                reused_reply_count=1,
                cost=0.0132,
                currency_code="USD",
                calls=[call] * 4,
            )
        return dossier_pb.RunRecord(
            start_time=Timestamp(seconds=1_790_000_000),
            end_time=Timestamp(seconds=1_790_000_009),
            usage=usage,
            activation_backend="in_process",
            software_version="0.1.0",
        )


def _outcome(activation: float) -> experiment.ProbeOutcome.ValueType:
    share = activation / REFERENCE_MAX
    if share >= 0.5:
        return experiment.PROBE_OUTCOME_ACTIVE
    return experiment.PROBE_OUTCOME_WEAK if share >= 0.1 else experiment.PROBE_OUTCOME_SILENT
