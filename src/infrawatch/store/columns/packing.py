"""Small unsigned integers, as many per 64-bit word as fit, which plain SQL can extract by shifts.

Number i of a run is in word `i / lanes`, `i % lanes * bits` above the lowest bit, where
`lanes = 64 / bits`. Each run begins a new word. A run of zeros has 0 bits and takes no word.
"""

import numpy as np

from infrawatch.model.samples import Int64s
from infrawatch.store.columns.ragged import Runs

_BITS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 21, 31, 62])
"""The most bits for each number of lanes, but 31 instead of 32 and 62 instead of 64: PostgreSQL's
integers are signed, and `(1::bigint << bits) - 1` must not overflow."""

_LARGEST = (1 << _BITS) - 1


def bits_for(largest: Int64s) -> Int64s:
    """Return the bits for numbers up to `largest`, which are from 0 to 2^62 - 1."""
    return _BITS[np.searchsorted(_LARGEST, largest)]


def words_in(counts: Int64s, bits: Int64s) -> Int64s:
    """Return the number of words for runs of `counts` numbers of `bits` bits."""
    return np.where(bits == 0, 0, -(-counts // _lanes(bits)))


def pack(numbers: Int64s, runs: Runs, bits: Int64s) -> Int64s:
    """Return the words of all runs, run by run."""
    words = Runs.of(words_in(runs.counts, bits))
    packed = np.empty(words.total, np.int64)
    for width in _widths(bits):
        which = np.flatnonzero(bits == width)
        lanes, counts = 64 // width, runs.counts[which]
        some = words.picked(which)
        ends = np.cumsum(some.counts)
        places = np.arange(0, lanes * some.total, lanes)
        places += some.spread(runs.starts[which] - lanes * (ends - some.counts))
        filled = numbers[places]
        for lane in range(1, min(lanes, int(counts.max()))):
            places += 1
            filled |= numbers.take(places, mode="clip") << lane * width
        # The last word of a run has also taken the numbers that follow the run.
        unused = lanes * some.counts - counts
        filled[ends - 1] &= (1 << (lanes - unused) * width) - 1
        packed[some.places()] = filled
    return packed


def unpack(packed: Int64s, counts: Int64s, bits: Int64s) -> Int64s:
    """Return the numbers of all runs, run by run: the inverse of `pack`."""
    words, lanes = Runs.of(words_in(counts, bits)), _lanes(bits)
    # All lanes of all words, width by width; runs of zeros share the zeros at the beginning.
    zeros = int(counts[bits == 0].max(initial=0))
    places = np.zeros(len(counts), np.int64)
    unpacked = np.zeros(zeros + int((words.counts * lanes).sum()), np.int64)
    start = zeros
    for width in _widths(bits):
        which = bits == width
        some = words.picked(which)
        places[which] = start + Runs.of(some.counts).starts * (64 // width)
        end = start + some.total * (64 // width)
        shifted = unpacked[start:end].reshape(-1, 64 // width)
        shifts = np.arange(64 // width) * width
        np.right_shift(packed[some.places()][:, np.newaxis], shifts, out=shifted)
        shifted &= (1 << width) - 1
        start = end
    return unpacked[Runs(places, counts).positions()]


def _lanes(bits: Int64s) -> Int64s:
    return 64 // np.maximum(bits, 1)


def _widths(bits: Int64s) -> list[int]:
    """Return the distinct numbers of bits except 0, in ascending order."""
    # np.unique hashes or sorts: several times as expensive as counting numbers up to 62.
    return (np.flatnonzero(np.bincount(bits)[1:]) + 1).tolist()
