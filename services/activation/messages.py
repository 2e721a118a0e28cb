"""From the records of the core to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.common.v1 import feature_pb2, text_pb2, window_pb2
from services.activation.encoder.fact_records import FeatureFacts, Scored
from services.activation.encoder.rows import FIRST_SCORED_POSITION, DenseRow, SparseRow
from services.activation.encoder.tokenizer import TextTokenizer, TokenizedText
from services.activation.index.config import Split
from services.activation.index.misses import Rung
from services.activation.index.reader import CorpusWindow, FeatureNumbers, IndexReader
from services.activation.index.statistics import Stratum
from services.activation.index.strategies import Strategy
from services.activation.triton.wire import SaeDescription
from services.common.errors import InvalidArgument
from services.common.names import FeatureRef, index_id
from services.common.tensors import to_tensor

RELATIVE_TOLERANCE = 1e-4
"""Of the feature's reference maximum, on pre-activations."""
_UNRELATED_COSINE = 0.1

_SPLITS = {
    window_pb2.SPLIT_EXPLAIN: Split.EXPLAIN,
    window_pb2.SPLIT_SELECT: Split.SELECT,
    window_pb2.SPLIT_HELDOUT: Split.HELDOUT,
}
_SPLIT_VALUES = {split: value for value, split in _SPLITS.items()}
_STRATEGIES = {
    window_pb2.WINDOW_STRATEGY_TOP: Strategy.TOP,
    window_pb2.WINDOW_STRATEGY_QUANTILE: Strategy.QUANTILE,
    window_pb2.WINDOW_STRATEGY_RANDOM_ACTIVE: Strategy.RANDOM_ACTIVE,
    window_pb2.WINDOW_STRATEGY_NON_ACTIVATING: Strategy.NON_ACTIVATING,
    window_pb2.WINDOW_STRATEGY_NEAR_MISS: Strategy.NEAR_MISS,
}
_RUNGS = {
    window_pb2.NEGATIVE_RUNG_LEXICAL: Rung.LEXICAL,
    window_pb2.NEGATIVE_RUNG_NEIGHBOR: Rung.NEIGHBOR,
    window_pb2.NEGATIVE_RUNG_SAME_TOKEN: Rung.SAME_TOKEN,
}
_RUNG_VALUES = {rung: value for value, rung in _RUNGS.items()}
_STRATA = {
    Stratum.DEAD: feature_pb2.FEATURE_STRATUM_DEAD,
    Stratum.TOO_RARE: feature_pb2.FEATURE_STRATUM_TOO_RARE,
    Stratum.ELIGIBLE: feature_pb2.FEATURE_STRATUM_ELIGIBLE,
    Stratum.DENSE: feature_pb2.FEATURE_STRATUM_DENSE,
    Stratum.VERY_DENSE: feature_pb2.FEATURE_STRATUM_VERY_DENSE,
}


def parse_split(value: window_pb2.Split.ValueType, field: str) -> Split:
    """The split meant; unset and unknown ones are InvalidArgument."""
    if value not in _SPLITS:
        raise InvalidArgument("a split is needed", field)
    return _SPLITS[value]


def parse_strategy(value: window_pb2.WindowStrategy.ValueType, field: str) -> Strategy:
    """The strategy meant; unset and unknown ones are InvalidArgument."""
    if value not in _STRATEGIES:
        raise InvalidArgument("a strategy is needed", field)
    return _STRATEGIES[value]


def parse_rungs(selection: window_pb2.WindowSelection, field: str) -> list[Rung]:
    """The rungs to draw near misses from; SAME_TOKEN where none is named.

    Raises:
        InvalidArgument: FIELD_INVALID for a rung that no corpus window stands on, a repeat, or
            rungs of another strategy.
    """
    rungs = list(selection.rungs)
    if rungs and selection.strategy != window_pb2.WINDOW_STRATEGY_NEAR_MISS:
        raise InvalidArgument("only NEAR_MISS has rungs", field)
    if len(set(rungs)) < len(rungs) or not set(rungs) <= set(_RUNGS):
        raise InvalidArgument("LEXICAL, NEIGHBOR or SAME_TOKEN, each once", field)
    return [_RUNGS[rung] for rung in rungs] or [Rung.SAME_TOKEN]


def parse_stratum(value: feature_pb2.FeatureStratum.ValueType, field: str) -> Stratum:
    """The stratum meant; unset and unknown ones are InvalidArgument."""
    for stratum, known in _STRATA.items():
        if value == known:
            return stratum
    raise InvalidArgument("a stratum is needed", field)


def numerics(
    description: SaeDescription, tokenizer: TextTokenizer, max_tokens: int
) -> pb.NumericsContract:
    """What has to be the same for values to be the same."""
    return pb.NumericsContract(
        prepend_bos=tokenizer.prepend_bos,
        bos_token_id=tokenizer.bos_token_id if tokenizer.prepend_bos else None,
        unscored_position_count=FIRST_SCORED_POSITION,
        max_token_count=min(max_tokens, description.maximum_positions),
        normalize_activations=description.normalize_activations,
        compute_dtype=description.compute_dtype,
        model_fingerprint=description.fingerprints.model,
        sae_fingerprint=description.fingerprints.sae,
        tokenizer_fingerprint=description.fingerprints.tokenizer,
        relative_tolerance=RELATIVE_TOLERANCE,
    )


def text_span(text: TokenizedText) -> text_pb2.TokenSpan:
    """Tokens of a whole text; a first token that was put in front is not listed."""
    first = text.prefix_count
    begins, ends = zip(*text.byte_spans[first:], strict=True) if len(text.ids) > first else ((), ())
    return text_pb2.TokenSpan(
        token_ids=text.ids[first:].tolist(),
        token_bytes=text.token_bytes[first:],
        byte_begins=begins,
        byte_ends=ends,
    )


def encoded_text(index: int, text: TokenizedText, values: DenseRow) -> pb.EncodedText:
    """Dense activations of one text."""
    return pb.EncodedText(
        text_index=index,
        tokens=text_span(text),
        activations=to_tensor(values[text.prefix_count :]),
        scored_begin=FIRST_SCORED_POSITION - text.prefix_count,
    )


def sparse_text(index: int, text: TokenizedText, row: SparseRow) -> pb.SparseEncodedText:
    """Sparse activations of one text."""
    return pb.SparseEncodedText(
        text_index=index,
        tokens=text_span(text),
        row_offsets=to_tensor(row.indptr[text.prefix_count :].astype(np.int64)),
        feature_indices=to_tensor(row.features.astype(np.int32)),
        activations=to_tensor(row.values.astype(np.float32)),
        scored_begin=FIRST_SCORED_POSITION - text.prefix_count,
    )


def corpus_window(
    window: CorpusWindow,
    index_key: str,
    strategy: window_pb2.WindowStrategy.ValueType,
    vocabulary: Sequence[bytes],
) -> window_pb2.Window:
    """One window of an index."""
    message = window_pb2.Window(
        name=f"indexes/{index_id(index_key)}/windows/{window.number}",
        document=window.document,
        source=window.source,
        kind=window.kind,
        split=_SPLIT_VALUES[window.split],
        left_context=_corpus_span(window.left_ids, vocabulary),
        tokens=_corpus_span(window.token_ids, vocabulary),
        inclusion_probability=window.probability,
        strategy=strategy,
        stratum=window.stratum,
        context_position=window.context_position,
    )
    if window.rung is not None:
        message.negative_rung = _RUNG_VALUES[window.rung]
    elif strategy == window_pb2.WINDOW_STRATEGY_NON_ACTIVATING:
        message.negative_rung = window_pb2.NEGATIVE_RUNG_RANDOM
    if window.activations is not None:
        message.activations.extend(window.activations)
        message.max_activation = window.maximum
    return message


def feature_facts(
    ref: FeatureRef,
    numbers: FeatureNumbers,
    weights: FeatureFacts,
    vocabulary: Sequence[bytes],
    density_matched: int | None,
) -> feature_pb2.FeatureFacts:
    """Facts of one feature, from index and weights."""
    message = feature_pb2.FeatureFacts(
        feature=ref.name,
        density=numbers.density,
        max_activation=numbers.maximum,
        reference_max=numbers.reference_max,
        quantiles=[
            feature_pb2.ActivationQuantile(probability=p, activation=value)
            for p, value in numbers.quantiles
        ],
        decoder_norm=weights.decoder_norm,
        promoted_tokens=weighted_tokens(weights.promoted_tokens, vocabulary),
        suppressed_tokens=weighted_tokens(weights.suppressed_tokens, vocabulary),
        neighbors=[
            feature_pb2.FeatureNeighbor(
                feature=FeatureRef(ref.sae, other.index).name, cosine=other.score
            )
            for other in weights.nearest_features
        ],
        stratum=_STRATA[numbers.stratum],
        histogram=[
            feature_pb2.HistogramBin(low=low, high=high, count=count)
            for low, high, count in numbers.histogram
        ],
    )
    for split in Split:
        one = numbers.splits[split]
        message.splits.add(
            split=_SPLIT_VALUES[split],
            window_count=one.window_count,
            active_window_count=one.active_window_count,
            document_count_above_tau=one.document_count_above_tau,
            token_count=one.token_count,
        )
    if density_matched is not None:
        message.density_matched_feature = FeatureRef(ref.sae, density_matched).name
    return message


def density_match(reader: IndexReader, feature: int, cosines: NDArray[np.float32]) -> int | None:
    """The feature of the closest density whose decoder points elsewhere, among those that have
    evidence in EXPLAIN."""
    density = reader.densities.astype(np.float64)
    usable = (density > 0) & (np.abs(cosines) < _UNRELATED_COSINE) & reader.has_evidence
    usable[feature] = False
    candidates = np.flatnonzero(usable)
    if len(candidates) == 0:
        return None
    distance = np.abs(density[candidates] - density[feature])
    return int(candidates[np.argmin(distance)])


def index_summary(manifest: dict[str, Any]) -> pb.IndexSummary:
    """What an index holds, from its manifest."""
    report, funnel = manifest["split_report"], manifest["funnel"]
    summary = pb.IndexSummary(
        document_count=manifest["document_count"],
        token_count=manifest["token_count"],
        leaked_window_count=sum(report["leaked_window_counts"]),
        dead_feature_count=funnel["dead"],
        too_rare_feature_count=funnel["too_rare"],
        eligible_feature_count=funnel["eligible"],
        dense_feature_count=funnel["dense"] + funnel["very_dense"],
        very_dense_feature_count=funnel["very_dense"],
    )
    for split in Split:
        summary.splits.add(
            split=_SPLIT_VALUES[split],
            window_count=report["window_counts"][split],
            token_count=report["scored_token_counts"][split],
        )
    return summary


def weighted_tokens(
    tokens: Sequence[Scored], vocabulary: Sequence[bytes]
) -> list[text_pb2.WeightedToken]:
    """Tokens with their bytes and a number."""
    return [
        text_pb2.WeightedToken(
            token_id=token.index, token_bytes=vocabulary[token.index], weight=token.score
        )
        for token in tokens
    ]


def _corpus_span(ids: Sequence[int], vocabulary: Sequence[bytes]) -> text_pb2.TokenSpan:
    return text_pb2.TokenSpan(token_ids=ids, token_bytes=[vocabulary[i] for i in ids])
