"""The predictions of a request, by item. A failed or missing one is no prediction at all:
it never becomes a zero."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from saexplain.scorer.v1.scorer_pb2 import PREDICTION_STATUS_OK, Prediction
from services.common.errors import InvalidArgument
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
        index, prediction = self._by_item.get(item, (-1, None))
        if prediction is None or prediction.status != PREDICTION_STATUS_OK:
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
        index, prediction = self._by_item.get(item, (-1, None))
        if prediction is None or prediction.status != PREDICTION_STATUS_OK:
            return None
        if not prediction.HasField("covered"):
            raise InvalidArgument("an answered VERIFY item", f"predictions[{index}].covered")
        return prediction.covered
