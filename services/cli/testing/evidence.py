"""Facts and corpus windows of a made feature."""

from __future__ import annotations

from saexplain.activation.v1.activation_pb2 import WindowList
from saexplain.common.v1 import feature_pb2 as feature_pb
from saexplain.common.v1 import vocabulary_pb2 as vocabulary_pb
from saexplain.common.v1 import window_pb2 as window_pb
from saexplain.common.v1.text_pb2 import TokenSpan, WeightedToken
from services.cli.testing.sketch import REFERENCE_MAX, TEMPLATES, Parts, tokens_of


class EvidenceParts(Parts):
    """What the index would say."""

    def window(self, ordinal: int, word: str, *, fires: bool) -> window_pb.Window:
        """A window around the word; its last token is a newline now and then."""
        text = self._hostile + " " + TEMPLATES[ordinal % len(TEMPLATES)].format(word)
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

    def _vocabulary(self) -> list[vocabulary_pb.CarrierProbe]:
        words = [f" {word}{self._hostile}" for word in self._sketch.triggers]
        return [
            vocabulary_pb.CarrierProbe(
                carrier=vocabulary_pb.Carrier(
                    name="short-1",
                    kind=vocabulary_pb.CARRIER_KIND_SHORT,
                    prefix=tokens_of("It was the"),
                ),
                probed_token_count=49_152,
                top_tokens=[
                    vocabulary_pb.TokenActivation(
                        token_id=i,
                        token_bytes=word.encode(),
                        activation=REFERENCE_MAX - i,
                        relative_activation=1 - i / REFERENCE_MAX,
                    )
                    for i, word in enumerate(words)
                ],
                positive_token_count=113,
                active_token_count=len(words),
            )
        ]

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
