"""Bit-packed buckets: each function of a bucket is stored as its distance from another one.

The i-th bucket of a series in a row, in integers, all but `count` times 10 ^ exponent:

    last  = base + factor * (slope * i + p)      min = last - factor * q
    count = least_count + n                      max = last + factor * r
    sum   = count * min + factor * s

n, p, q, r and s are never negative; each is packed by itself, for all buckets of a series in a row.
If one of them is not such an integer, or too large for PostgreSQL's, the functions of the series in
that row are stored raw, bucket by bucket.
"""

from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Float64s, Int64s, Positions
from infrawatch.store.chunks.values import POWERS, RAW, to_integers
from infrawatch.store.columns.packing import bits_for, pack, unpack, words_in
from infrawatch.store.columns.ragged import Runs
from infrawatch.store.rollups.buckets import ROW_BUCKETS, Buckets

FUNCTIONS = 5
"""count, sum, min, max and last, in this order."""

_SCALED = 4
"""All functions except count."""

_LARGEST = 2.0**61
"""Every step of decoding stays below twice this, which fits a `bigint`."""


class PackedBuckets(NamedTuple):
    """One entry per series and row; `bits` has a column for each of n, p, q, r and s.

    Bit j of `masks` is set if bucket j of the row exists. `words` and `raw` are concatenated over
    all entries.
    """

    series_ids: Int64s
    starts_us: Int64s
    masks: Int64s
    bits: Int64s
    least_counts: Int64s
    exponents: Int64s
    factors: Int64s
    bases: Int64s
    slopes: Int64s
    words: Int64s
    raw: Float64s

    @property
    def counts(self) -> Int64s:
        """The number of buckets of each entry."""
        return np.bitwise_count(self.masks).astype(np.int64)

    @property
    def word_runs(self) -> Runs:
        """The words of each entry."""
        words = words_in(np.repeat(self.counts, FUNCTIONS), self.bits.reshape(-1))
        return Runs.of(words.reshape(-1, FUNCTIONS).sum(axis=1))

    @property
    def raw_runs(self) -> Runs:
        """The raw numbers of each entry."""
        return Runs.of(np.where(self.exponents == RAW, FUNCTIONS * self.counts, 0))

    def picked(self, which: Positions) -> Self:
        """Return the entries at these positions, in that order."""
        words = self.words[self.word_runs.picked(which).positions()]
        raw = self.raw[self.raw_runs.picked(which).positions()]
        return type(self)._make([*(column[which] for column in self[:-2]), words, raw])


class _Integers(NamedTuple):
    """Buckets as integers: the number of samples, and a row of sum, min, max and last for each.

    All are zero where the exponent of the series in the row is `RAW`.
    """

    counts: Int64s
    scaled: Int64s
    exponents: Int64s


def pack_buckets(buckets: Buckets, bucket_us: int) -> PackedBuckets:
    """Pack buckets that come series by series, in order of time, without losing a bit."""
    row_us = ROW_BUCKETS * bucket_us
    runs = buckets.runs_within(row_us)
    counts, scaled, exponents = _to_integers(buckets, runs)
    sums, least, largest, lasts = scaled.T
    firsts = lasts[runs.starts]
    distances = np.stack(
        (lasts - runs.spread(firsts), lasts - least, largest - lasts, sums - counts * least), axis=1
    )
    factors = _by_function(runs).divide(distances.reshape(-1))
    ahead, *others = distances.T
    slopes = np.rint(ahead[runs.lasts] / np.maximum(runs.counts - 1, 1)).astype(np.int64)
    ahead = ahead - runs.spread(slopes) * runs.indexes()
    lowest, least_counts = runs.least(ahead), runs.least(counts)
    numbers = np.empty(FUNCTIONS * len(counts), np.int64)
    columns = (counts - runs.spread(least_counts), ahead - runs.spread(lowest), *others)
    for place, column in zip(_places(runs), columns, strict=True):
        numbers[place] = column
    parts = Runs.of(np.repeat(runs.counts, FUNCTIONS))
    bits = bits_for(parts.largest(numbers))
    starts_us = buckets.times_us[runs.starts] // row_us * row_us
    is_there = 1 << (buckets.times_us - runs.spread(starts_us)) // bucket_us
    is_raw = runs.spread(exponents == RAW)
    return PackedBuckets(
        series_ids=buckets.series_ids[runs.starts],
        starts_us=starts_us,
        masks=np.bitwise_or.reduceat(is_there, runs.starts),
        bits=bits.reshape(-1, FUNCTIONS),
        least_counts=least_counts,
        exponents=exponents,
        factors=factors,
        bases=firsts + factors * lowest,
        slopes=slopes,
        words=pack(numbers, parts, bits),
        raw=np.stack([column[is_raw] for column in buckets[2:]], axis=1).reshape(-1),
    )


def unpack_buckets(packed: PackedBuckets, bucket_us: int) -> Buckets:
    """Unpack the buckets, entry by entry, each in order of time: the inverse of `pack_buckets`."""
    runs = Runs.of(packed.counts)
    bits = packed.bits.reshape(-1)
    numbers = unpack(packed.words, np.repeat(runs.counts, FUNCTIONS), bits)
    more, ahead, below, above, rest = (numbers[place] for place in _places(runs))
    factors = runs.spread(packed.factors)
    counts = runs.spread(packed.least_counts) + more
    lasts = runs.spread(packed.bases)
    lasts += factors * (runs.spread(packed.slopes) * runs.indexes() + ahead)
    least = lasts - factors * below
    scaled = np.stack((counts * least + factors * rest, least, lasts + factors * above, lasts))
    functions = np.concatenate(
        ([counts.astype(np.float64)], scaled / runs.spread(POWERS[packed.exponents]))
    )
    functions[:, runs.spread(packed.exponents == RAW)] = packed.raw.reshape(-1, FUNCTIONS).T
    # The set bits of each mask in turn, in the order of the buckets.
    places = np.nonzero(packed.masks[:, np.newaxis] >> np.arange(ROW_BUCKETS) & 1)[1]
    return Buckets(
        runs.spread(packed.series_ids),
        runs.spread(packed.starts_us) + places * bucket_us,
        *functions,
    )


def _to_integers(buckets: Buckets, runs: Runs) -> _Integers:
    functions = np.stack(buckets[3:], axis=1)
    _, scaled, exponents = to_integers(functions.reshape(-1), _by_function(runs))
    scaled = scaled.reshape(-1, _SCALED)
    counts = buckets.counts.astype(np.int64)
    is_odd = np.abs(scaled[:, 1]) * buckets.counts >= _LARGEST
    # A sum of doubles may be rounded to less than count * min.
    is_odd |= scaled[:, 0] < counts * scaled[:, 1]
    exponents[runs.has_any(is_odd)] = RAW
    is_raw = runs.spread(exponents == RAW)
    scaled[is_raw] = 0
    counts[is_raw] = 0
    return _Integers(counts, scaled, exponents)


def _by_function(runs: Runs) -> Runs:
    """Return the same runs over an array with a number per bucket and function except count."""
    return Runs(_SCALED * runs.starts, _SCALED * runs.counts)


def _places(runs: Runs) -> list[Positions]:
    """Return the positions of the buckets' numbers by function, where runs are function-major."""
    firsts = np.arange(runs.total) + (FUNCTIONS - 1) * runs.spread(runs.starts)
    sizes = runs.spread(runs.counts)
    return [firsts + function * sizes for function in range(FUNCTIONS)]
