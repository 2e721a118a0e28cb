"""Tokens that are close to a token: its variants in writing, and its embedding's neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.activation.encoder.fact_records import Scored
from services.activation.encoder.tokenizer import TextTokenizer


def neighbors(
    token_id: int, cosines: NDArray[np.float32], tokenizer: TextTokenizer, count: int
) -> tuple[list[Scored], list[Scored]]:
    """Variants of a token and its closest other tokens.

    Args:
        token_id: The token.
        cosines: [vocabulary] cosine of each token with it; may be shorter or longer than the
            tokenizer's vocabulary, what only one of them knows is left out.
        tokenizer: Knows the bytes of every token.
        count: Neighbours wanted.

    Returns:
        Case and leading-space variants that are single tokens, by token id; then others by
        cosine, closest first. Neither holds the token itself.
    """
    known = min(len(cosines), tokenizer.vocabulary_size)
    variants = [other for other in variant_ids(token_id, tokenizer) if other < known]
    masked = cosines[:known].astype(np.float64)
    masked[[token_id, *variants]] = -np.inf
    order = np.argsort(-masked, kind="stable")[:count]
    return (
        [Scored(other, float(cosines[other])) for other in variants],
        [Scored(int(other), float(masked[other])) for other in order if np.isfinite(masked[other])],
    )


def variant_ids(token_id: int, tokenizer: TextTokenizer) -> list[int]:
    """Tokens that differ in case or in one leading space only, ascending, without itself."""
    piece = tokenizer.vocabulary_bytes[token_id]
    try:
        text = piece.decode()
    except UnicodeDecodeError:  # a part of a character has no case
        text = ""
    word = text.removeprefix(" ")
    if not word.strip():
        return []
    written = {word, word.lower(), word.upper(), word.capitalize()}
    wanted = {form.encode() for base in written for form in (base, f" {base}")}
    ids = tokenizer.ids_of_bytes
    return sorted({ids[form] for form in wanted if form in ids} - {token_id})
