"""Tokens of the vocabulary: close to each other, and tried one by one behind a carrier."""
