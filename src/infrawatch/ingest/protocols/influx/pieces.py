"""Pieces of a text from any positions, gathered at once."""

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Positions

Pieces = NDArray[np.void]

_WORD = 8


def gather(text: bytes, at: Positions, width: int) -> Pieces:
    """Gather `width` bytes from each position; before the text there are as many zeros.

    The first position is the least one.
    """
    if at[0] < 0:
        text, at = bytes(width) + text, at + width
    every = np.ndarray(len(text) - width + 1, np.dtype((np.void, width)), text, strides=1)
    pieces: Pieces = every[at]
    return pieces


def to_rows(pieces: Pieces) -> NDArray[np.uint64] | NDArray[np.uint8]:
    """View each piece as a row of words, or else of bytes; rows are equal if the pieces are."""
    count = len(pieces)
    if pieces.itemsize % _WORD:
        return pieces.view(np.uint8).reshape(count, -1)
    return pieces.view(np.uint64).reshape(count, -1)


def half_width(shortest: int, longest: int) -> int:
    """Return a width, not above the shortest length, such that two pieces cover the longest one.

    They do so if that is at most twice the shortest. If possible, the width is one of whole words.
    """
    return min(-(-longest // (2 * _WORD)) * _WORD, shortest)
