"""Transcoders (Dunefsky et al., arXiv:2406.11944): read at one place, write at another.

Their ``b_dec`` belongs to the place they write to, so it never touches the input. A skip
connection changes what is written and no activation.
"""

from __future__ import annotations

from typing import ClassVar

from services.activation.encoder.saes.jumprelu import JumpReluSae
from services.activation.encoder.saes.standard import StandardSae


class Transcoder(StandardSae):
    """``relu(x W_enc + b_enc)``; ``W_dec`` has the width of the output hook."""

    reads_b_dec: ClassVar[bool] = False


class JumpReluTranscoder(JumpReluSae):
    """A transcoder with JumpReLU."""

    reads_b_dec: ClassVar[bool] = False
