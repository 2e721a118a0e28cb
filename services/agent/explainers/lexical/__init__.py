"""The explainer that asks no language model: weighted rules of tokens and left contexts."""

from services.agent.explainers.lexical.explainer import LexicalExplainer

__all__ = ["LexicalExplainer"]
