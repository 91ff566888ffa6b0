"""Small unsigned integers, as many to a 64-bit word as fit, so that plain SQL can shift them out.

Number i of a run lies in word `i / lanes`, `i % lanes * width` bits above the lowest, with
`lanes = 64 / width`. Each run begins a new word. A run of zeros has width 0 and takes no word.
"""

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Int64s
from infrawatch.store.ragged import Runs

Widths = NDArray[np.int16]

_WIDTHS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 21, 31, 62], np.int16)
"""The widest of each number of lanes, but 31 for 32 and 62 for 64: PostgreSQL's integers have a
sign, and `(1::bigint << width) - 1` must not overflow."""

_LARGEST = (np.int64(1) << _WIDTHS.astype(np.int64)) - 1


def widths_for(largest: Int64s) -> Widths:
    """The width for runs whose largest numbers are these; all must be below 2^62."""
    return _WIDTHS[np.searchsorted(_LARGEST, largest)]


def words_in(counts: NDArray[np.integer], widths: Widths) -> Int64s:
    """How many words runs of these lengths and widths take."""
    lanes = 64 // np.maximum(widths, 1).astype(np.int64)
    return np.where(widths == 0, 0, -(-counts // lanes))


def pack(numbers: Int64s, runs: Runs, widths: Widths) -> Int64s:
    """The words of each run, one run after the other."""
    words = Runs.of(words_in(runs.counts, widths))
    packed = np.empty(words.total, np.int64)
    for width in np.unique(widths[widths > 0]).tolist():
        which = widths == width
        lanes = 64 // width
        padded = np.zeros((int(words.counts[which].sum()), lanes), np.int64)
        places = _padded(words.counts[which], runs.counts[which], lanes)
        padded.reshape(-1)[places] = numbers[runs.picked(which).positions()]
        filled = padded[:, 0].copy()
        for lane in range(1, lanes):
            filled |= padded[:, lane] << lane * width
        packed[words.picked(which).positions()] = filled
    return packed


def unpack(packed: Int64s, counts: NDArray[np.integer], widths: Widths) -> Int64s:
    """The numbers of each run, one run after the other: the inverse of `pack`."""
    runs = Runs.of(counts)
    words = Runs.of(words_in(counts, widths))
    numbers = np.zeros(runs.total, np.int64)
    for width in np.unique(widths[widths > 0]).tolist():
        which = widths == width
        lanes = 64 // width
        shifts = np.arange(lanes) * width
        filled = packed[words.picked(which).positions()]
        padded = filled[:, np.newaxis] >> shifts & (1 << width) - 1
        places = _padded(words.counts[which], runs.counts[which], lanes)
        numbers[runs.picked(which).positions()] = padded.reshape(-1)[places]
    return numbers


def _padded(word_counts: Int64s, counts: NDArray[np.intp], lanes: int) -> NDArray[np.intp]:
    """Where each number goes when runs fill whole words and the last word is padded."""
    return Runs(Runs.of(word_counts).starts * lanes, counts).positions()
