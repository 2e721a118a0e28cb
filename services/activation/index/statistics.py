"""Numbers of every feature, from the counts of an index; definitions of method section 1."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from services.activation.index.config import SPLIT_COUNT, Split
from services.activation.index.partial import ACTIVE_SHARE, DocumentMaxima, Partial
from services.activation.index.plan import IndexPlan
from services.activation.index.records import Floats

ELIGIBLE_DOCUMENTS = 20
"""Documents at or above tau that EXPLAIN and HELDOUT each need."""
DENSE, VERY_DENSE = 1e-2, 0.1
"""Densities above which a feature is counted apart."""


class Stratum(enum.StrEnum):
    """The groups of the funnel; every feature is in one."""

    DEAD = "dead"
    """Fires at no scored token."""
    TOO_RARE = "too_rare"
    """Fires, in fewer than 20 EXPLAIN or 20 HELDOUT documents at or above tau."""
    ELIGIBLE = "eligible"
    """Enough documents, density at most 1e-2."""
    DENSE = "dense"
    """Density above 1e-2."""
    VERY_DENSE = "very_dense"
    """Density above 0.1."""


@dataclass(frozen=True)
class Funnel:
    """Features per stratum."""

    dead: int
    too_rare: int
    eligible: int
    dense: int
    very_dense: int

    def as_dict(self) -> dict[str, int]:
        """JSON-ready mapping."""
        return asdict(self)


def document_counts(plan: IndexPlan, whole: Partial) -> NDArray[np.int64]:
    """[splits, features] documents at or above tau, from finished parts."""
    counted = DocumentMaxima.join([whole.documents], whole.reference)
    live = whole.reference[counted.feature] > 0
    split = plan.document_split[counted.document].astype(np.int64)
    cells = (split * whole.feature_count + counted.feature)[live]
    counts = np.bincount(cells, minlength=SPLIT_COUNT * whole.feature_count)
    return counts.reshape(SPLIT_COUNT, -1)


def densities(token_histogram: NDArray[np.integer], token_counts: tuple[int, ...]) -> Floats:
    """[features] share of all scored tokens at which each feature fires."""
    fired = token_histogram.sum(axis=(0, 2), dtype=np.int64)
    shares: Floats = (fired / max(1, sum(token_counts))).astype(np.float32)
    return shares


def strata(
    density: Floats, token_histogram: NDArray[np.integer], tau_documents: NDArray[np.integer]
) -> list[Stratum]:
    """The stratum of every feature."""
    fires = token_histogram.sum(axis=(0, 2)) > 0
    enough = (tau_documents[Split.EXPLAIN] >= ELIGIBLE_DOCUMENTS) & (
        tau_documents[Split.HELDOUT] >= ELIGIBLE_DOCUMENTS
    )
    found = []
    for alive, often, share in zip(fires, enough, density, strict=True):
        if not alive:
            found.append(Stratum.DEAD)
        elif share > VERY_DENSE:
            found.append(Stratum.VERY_DENSE)
        elif share > DENSE:
            found.append(Stratum.DENSE)
        else:
            found.append(Stratum.ELIGIBLE if often else Stratum.TOO_RARE)
    return found


def funnel(of_features: list[Stratum]) -> Funnel:
    """Count the strata."""
    return Funnel(**{stratum.value: of_features.count(stratum) for stratum in Stratum})


__all__ = [
    "ACTIVE_SHARE",
    "DENSE",
    "ELIGIBLE_DOCUMENTS",
    "VERY_DENSE",
    "Funnel",
    "Stratum",
    "densities",
    "document_counts",
    "funnel",
    "strata",
]
