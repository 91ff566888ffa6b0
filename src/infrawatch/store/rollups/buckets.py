"""Rollups: the samples of five minutes or of an hour, aggregated into buckets."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Bools, Columns, Float64s, Int64s, Positions, is_stale
from infrawatch.model.timerange import US
from infrawatch.store.chunks.values import MAX_EXPONENT, POWERS, RAW, Scaled
from infrawatch.store.columns.ragged import Runs, are_first

_POWERS = 10.0 ** np.array([0, 3, 6])
"""Values with at most this many decimals, as nearly all measurements are, are added as integers."""

_SUMMED_BELOW = np.zeros(MAX_EXPONENT + 2)
_SUMMED_BELOW[:7] = 2.0**49 / 10.0 ** np.array([0, 2, 1, 0, 2, 1, 0])
"""Sums of integers below this, by exponent, are those that `_sums` finds with one of its powers:
times the next power, they are below 2^49, where different fractions are different doubles. 0 for
other exponents, and for `RAW`."""

ROW_BUCKETS = 24
"""Buckets per series and table row: a window of five-minute buckets, or a day of hourly ones."""


class Resolution(NamedTuple):
    """Buckets of `table` are `bucket_us` long."""

    table: str
    bucket_us: int

    @property
    def row_us(self) -> int:
        """The time a row covers, beginning at a multiple of it."""
        return ROW_BUCKETS * self.bucket_us


FIVE_MINUTES = Resolution("rollups_5m", 300 * US)
HOUR = Resolution("rollups_1h", 3600 * US)

RESOLUTIONS = (HOUR, FIVE_MINUTES)
"""The coarsest first; each is a multiple of the next."""


class Buckets(NamedTuple):
    """Non-empty buckets, by (series, time); a bucket's time is its start.

    Stale markers do not count as samples. A NaN among the samples makes sum, min and max NaN.
    """

    series_ids: Int64s
    times_us: Int64s
    counts: Float64s
    sums: Float64s
    least: Float64s
    largest: Float64s
    lasts: Float64s

    @classmethod
    def of(cls, columns: Columns, bucket_us: int) -> Self:
        """Roll up samples that are sorted by (series, time) and unique."""
        is_gone = is_stale(columns.values)
        samples = columns.picked(~is_gone) if is_gone.any() else columns
        runs = cls.runs_of(samples, bucket_us)
        with np.errstate(over="ignore", invalid="ignore"):
            return cls(
                samples.series_ids[runs.starts],
                samples.times_us[runs.starts] // bucket_us * bucket_us,
                runs.counts.astype(np.float64),
                _sums(samples.values, runs),
                np.minimum.reduceat(samples.values, runs.starts),
                np.maximum.reduceat(samples.values, runs.starts),
                samples.values[runs.lasts],
            )

    @classmethod
    def of_scaled(cls, columns: Columns, runs: Runs, scaled: Scaled, bucket_us: int) -> Self:
        """Do the same as `of` in a third of the time, given the integers of the values.

        `runs` are the `runs_of` the samples.
        """
        is_raw = scaled.exponents == RAW
        if is_raw.all() or (is_raw.any() and is_stale(columns.values).any()):
            return cls.of(columns, bucket_us)
        firsts = np.searchsorted(runs.starts, scaled.runs.starts)
        parts = Runs.at(firsts, len(runs.starts))
        exponents, counts = parts.spread(scaled.exponents), runs.counts.astype(np.float64)
        sums, least, largest = (
            function.reduceat(scaled.integers, runs.starts)
            for function in (np.add, np.minimum, np.maximum)
        )
        is_exact = np.maximum(-least, largest) * counts < _SUMMED_BELOW[exponents]
        # Large windows become several chunks, which may begin within a bucket.
        is_exact &= runs.lasts <= parts.spread(scaled.runs.lasts)
        powers = POWERS[exponents]
        buckets = cls(
            columns.series_ids[runs.starts],
            columns.times_us[runs.starts] // bucket_us * bucket_us,
            counts,
            sums / powers,
            least / powers,
            largest / powers,
            columns.values[runs.lasts],
        )
        if not is_exact.all():
            others = cls.of(columns.picked(runs.picked(~is_exact).positions()), bucket_us)
            for column, other in zip(buckets[3:6], others[3:6], strict=True):
                column[~is_exact] = other
        return buckets

    @staticmethod
    def runs_of(columns: Columns, bucket_us: int) -> Runs:
        """Return runs of samples that share a bucket; samples come by series, in order of time."""
        return Runs.of_equal(columns.series_ids, columns.times_us // bucket_us)

    def coarser(self, bucket_us: int) -> "Buckets":
        """Aggregate into buckets whose length is a multiple of these buckets' length."""
        starts_us = self.times_us // bucket_us * bucket_us
        runs = Runs.of_equal(self.series_ids, starts_us)
        with np.errstate(over="ignore", invalid="ignore"):
            return Buckets(
                self.series_ids[runs.starts],
                starts_us[runs.starts],
                np.add.reduceat(self.counts, runs.starts),
                _sums(self.sums, runs),
                np.minimum.reduceat(self.least, runs.starts),
                np.maximum.reduceat(self.largest, runs.starts),
                self.lasts[runs.lasts],
            )

    @classmethod
    def joined(cls, parts: "Sequence[Buckets]") -> "Buckets":
        """Concatenate the parts."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(cls.of(Columns.empty(), 1), *parts, strict=True)
        return Buckets._make(np.concatenate(column) for column in columns)

    @classmethod
    def sorted(cls, parts: "Sequence[Buckets]") -> "Buckets":
        """Merge the parts, which have no bucket in common, sorted by (series, time)."""
        joined = cls.joined(parts)
        # Mostly, the parts are runs of ascending ids, and each continues the series of the previous
        # ones: a stable sort by id alone merges them at a tenth of the cost of sorting by both.
        ordered = joined.picked(np.argsort(joined.series_ids, kind="stable"))
        is_same_series = ordered.series_ids[1:] == ordered.series_ids[:-1]
        if (is_same_series & (ordered.times_us[1:] < ordered.times_us[:-1])).any():
            return joined.picked(np.lexsort((joined.times_us, joined.series_ids)))
        return ordered

    def by_series(self) -> "Buckets":
        """Return runs of one series, each in order of time, with all buckets of a series in one."""
        firsts = self.series_ids[are_first(self.series_ids)]
        return self if len(np.unique(firsts)) == len(firsts) else Buckets.sorted([self])

    def picked(self, which: Positions | Bools) -> "Buckets":
        """Return the buckets at these positions, in that order, or where the mask is true."""
        return Buckets._make(column[which] for column in self)

    def runs_within(self, length_us: int) -> Runs:
        """Return runs of one series within the same multiple of `length_us` since the epoch."""
        return Runs.of_equal(self.series_ids, self.times_us // length_us)


def _sums(values: Float64s, runs: Runs) -> Float64s:
    """Add up each run; sums of decimal fractions are exact, so they are as short as their terms.

    Other values are added pairwise, with a rounding error: such a sum, a decimal fraction of many
    digits, would take twice the space to store.
    """
    sums = np.add.reduceat(values, runs.starts)
    # The first power that makes the first value of a run an integer; often it suits the others.
    firsts = values[runs.starts, np.newaxis]
    is_off = np.rint(firsts * _POWERS) / _POWERS != firsts
    tries = np.logical_and.accumulate(is_off, axis=1).sum(axis=1)
    left = np.flatnonzero(tries < len(_POWERS))
    while left.size:
        some, powers = runs.picked(left), _POWERS[tries[left]]
        among, scale = values[some.places()], some.spread(powers)
        starts = Runs.of(some.counts).starts
        scaled = np.rint(among * scale)
        totals = np.add.reduceat(np.abs(scaled), starts)
        is_exact = totals < 2.0**53  # so no partial sum is rounded
        is_same = scaled / scale == among
        if not is_same.all():
            is_exact &= np.logical_and.reduceat(is_same, starts)
        exact = np.add.reduceat(scaled, starts) / powers
        sums[left[is_exact]] = exact[is_exact]
        left = left[~is_exact]
        tries[left] += 1
        left = left[tries[left] < len(_POWERS)]
    return sums
