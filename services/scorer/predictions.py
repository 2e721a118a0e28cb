"""The predictions of a request, by item. A failed or missing one is no prediction at all:
it never becomes a zero."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from saexplain.scorer.v1.scorer_pb2 import (
    PREDICTION_STATUS_OK,
    SHARE_SOURCE_UNSPECIFIED,
    Prediction,
    ShareSource,
)
from services.common.errors import InvalidArgument
from services.scorer.firing import CLEARLY, NOT
from services.scorer.statistics.estimate import Floats


class Predictions:
    """Looks predictions up by the name of the window or the id of the text.

    Raises:
        InvalidArgument: two predictions of one item.
    """

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._by_item: dict[str, tuple[int, Prediction]] = {}
        for index, prediction in enumerate(predictions):
            if prediction.item_id in self._by_item:
                raise InvalidArgument(
                    f"a second prediction of {prediction.item_id}", f"predictions[{index}].item_id"
                )
            self._by_item[prediction.item_id] = index, prediction

    def shares(self, item: str, token_count: int) -> Floats | None:
        """Predicted share of the reference maximum per token; None where the judge failed.

        Raises:
            InvalidArgument: another number of shares, or one that is negative or not finite.
        """
        index, prediction = self._answered(item)
        if prediction is None:
            return None
        values = np.asarray(prediction.shares, np.float64)
        field = f"predictions[{index}].shares"
        if len(values) != token_count:
            raise InvalidArgument(f"{len(values)} shares for {token_count} tokens", field)
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise InvalidArgument("shares must be finite and >= 0", field)
        return values

    def covered(self, item: str) -> bool | None:
        """The verifier's word on a text; None where the judge failed.

        Raises:
            InvalidArgument: an answered item without `covered`.
        """
        index, prediction = self._answered(item)
        if prediction is None:
            return None
        if not prediction.HasField("covered"):
            raise InvalidArgument("an answered VERIFY item", f"predictions[{index}].covered")
        return prediction.covered

    def probability(self, item: str) -> float | None:
        """How likely the item is a case of the explanation; None where the judge failed.

        Raises:
            InvalidArgument: an answered item without it, or one outside [0, 1].
        """
        index, prediction = self._answered(item)
        if prediction is None:
            return None
        value = prediction.probability
        if not prediction.HasField("probability") or not 0 <= value <= 1:
            raise InvalidArgument("must be in [0, 1]", f"predictions[{index}].probability")
        return value

    def rating(self, item: str) -> int | None:
        """How clearly the item expresses what is explained; None where the judge failed.

        Raises:
            InvalidArgument: an answered item without it, or another than 0, 1 and 2.
        """
        index, prediction = self._answered(item)
        if prediction is None:
            return None
        if not prediction.HasField("rating") or not NOT <= prediction.rating <= CLEARLY:
            raise InvalidArgument("must be 0, 1 or 2", f"predictions[{index}].rating")
        return prediction.rating

    def chosen(self, item: str, passage_count: int) -> list[int] | None:
        """The chosen passages of a group, rising; None where the judge failed.

        Raises:
            InvalidArgument: a passage that does not exist, or one twice.
        """
        index, prediction = self._answered(item)
        if prediction is None:
            return None
        places = list(prediction.chosen)
        inside = all(0 <= place < passage_count for place in places)
        if not inside or places != sorted(set(places)):
            raise InvalidArgument(
                "must be indices of passages, rising", f"predictions[{index}].chosen"
            )
        return places

    def embedding(self, item: str) -> Floats | None:
        """The vector of a text, shape [dimensions]; None where the judge failed.

        Raises:
            InvalidArgument: no numbers, or one that is not finite.
        """
        index, prediction = self._answered(item)
        if prediction is None:
            return None
        vector = np.asarray(prediction.embedding, np.float64)
        if not vector.size or not np.all(np.isfinite(vector)):
            raise InvalidArgument("must be finite numbers", f"predictions[{index}].embedding")
        return vector

    def share_source(self, item: str) -> ShareSource.ValueType:
        """Where simulated shares come from; UNSPECIFIED where the judge failed."""
        _, prediction = self._answered(item)
        return SHARE_SOURCE_UNSPECIFIED if prediction is None else prediction.share_source

    def models(self) -> list[str]:
        """The models that answered beside the judge's own, each once."""
        named = (p.model for _, p in self._by_item.values() if p.model)
        return list(dict.fromkeys(named))

    def _answered(self, item: str) -> tuple[int, Prediction | None]:
        index, prediction = self._by_item.get(item, (-1, None))
        if prediction is None or prediction.status != PREDICTION_STATUS_OK:
            return index, None
        return index, prediction
