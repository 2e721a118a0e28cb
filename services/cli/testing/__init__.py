"""Dossiers for tests and for looking at the report.

A made feature fires on given words. Sentences, activations, probes and scores follow from
a seed.
"""

from services.cli.testing.dossier import DossierBuilder
from services.cli.testing.sketch import REFERENCE_MAX, FeatureSketch, tokens_of

__all__ = ["REFERENCE_MAX", "DossierBuilder", "FeatureSketch", "tokens_of"]
