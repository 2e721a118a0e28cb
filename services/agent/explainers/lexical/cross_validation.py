"""Whether rules found in some documents hold in others: what tells a feature from noise.

A search over thousands of matchers finds rules in anything, and they fit the evidence they
were chosen on. So the documents of the evidence are halved, rules are searched in each half
and predict the other; how far prediction and measurement correlate is the floor below which
nothing is claimed.

Every measured row counts once: weighted to natural prevalence a handful of silent windows
would decide, and the floor would drop real features with the noise.
"""

from __future__ import annotations

import numpy as np

from services.agent.explainers.lexical.occurrences import Occurrences, predictions
from services.agent.explainers.lexical.search import RuleSearch
from services.agent.explainers.lexical.strengths import refit

MIN_HELD_OUT_CORRELATION = 0.4
"""Between features of the demo (59 of 60 above) and random directions (16 of 16 below), both
drawn for this purpose only; benchmarks/README.md."""
_FOLDS = 2


def held_out_correlation(occurrences: Occurrences) -> float:
    """Pearson correlation, over all measured rows, of the measured share with what rules
    from the other documents predict; 0 where either is constant or there is one document."""
    fold = occurrences.stretch_document % _FOLDS
    predicted, measured = [], []
    for held in range(_FOLDS):
        training, test = (occurrences.subset(mask) for mask in (fold != held, fold == held))
        if training is None or test is None:
            return 0.0
        rules = refit(training, RuleSearch(training).run())
        seen = test.weight > 0
        predicted.append(predictions(test, rules)[seen])
        measured.append(test.share[seen])
    x, y = np.concatenate(predicted), np.concatenate(measured)
    if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
