"""The samples of selectors, viewed at a moment or in a window of time before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from infrawatch.errors import QueryTooBroad
from infrawatch.model.samples import (
    Bools,
    Columns,
    Float64s,
    Int64s,
    Positions,
    is_stale,
    series_bounds,
)
from infrawatch.query.promql.vectors import Labels, Vector
from infrawatch.store.columns.ragged import Runs

_BLOCK_SAMPLES = 1 << 17
"""Samples of windows processed at a time: about what a processor's caches hold."""

_MAX_SAMPLES = 100_000_000
"""The most samples of all windows, which overlap: some seconds of work."""


class Windows(NamedTuple):
    """Windows that have samples: window i has those of run i, and ends at `ends_us[i]`.

    `columns` has the place of each window's moment, `is_delta` whether its samples are increments.
    """

    values: Float64s
    times_us: Int64s
    runs: Runs
    ends_us: Int64s
    range_us: int
    columns: Positions
    is_delta: Bools

    @property
    def firsts(self) -> Float64s:
        return self.values[self.runs.starts]

    @property
    def lasts(self) -> Float64s:
        return self.values[self.runs.lasts]


class WindowValues(NamedTuple):
    """One value for each window, and whether it has any."""

    values: Float64s
    present: Bools


WindowFunction = Callable[[Windows], WindowValues]


@dataclass(frozen=True, slots=True)
class Samples:
    """Series and their samples by (series, time): row i has those from `bounds[i]` on."""

    labels: Sequence[Labels]
    bounds: Positions
    times_us: Int64s
    values: Float64s
    is_delta: Bools

    @classmethod
    def of(cls, labels: Sequence[Labels], columns: Columns, is_delta: Bools) -> Self:
        """Make from samples sorted by (series, time) and the labels of the series in them."""
        bounds = series_bounds(columns.series_ids)
        return cls(labels, bounds, columns.times_us, columns.values, is_delta)

    @classmethod
    def of_vector(cls, vector: Vector, moments_us: Int64s) -> Self:
        """Make from the values of a vector, as samples at its moments."""
        present = vector.present
        rows, columns = np.nonzero(present)
        return cls(
            vector.labels,
            np.append(0, np.cumsum(present.sum(axis=1))).astype(np.intp),
            moments_us[columns],
            vector.values[rows, columns],
            np.zeros(len(vector.labels), np.bool_),
        )

    def picked(self, kept: Bools) -> "Samples":
        """The samples where the mask is true, of the same series."""
        if kept.all():
            return self
        before = np.append(0, np.cumsum(kept)).astype(np.intp)
        return Samples(
            self.labels,
            before[self.bounds],
            self.times_us[kept],
            self.values[kept],
            self.is_delta,
        )

    def latest(self, moments_us: Int64s, lookback_us: int) -> tuple[Vector, Int64s]:
        """The last sample of each series at each moment, if younger than `lookback_us`; its time.

        A series that ended with a stale marker has none.
        """
        places = self._places(moments_us) - 1
        present = places >= self.bounds[:-1, np.newaxis]
        if not present.any():
            blank = Vector.blank(len(moments_us))
            return blank, np.empty(blank.values.shape, np.int64)
        places[~present] = 0
        times_us, values = self.times_us[places], self.values[places]
        present &= times_us > moments_us - lookback_us
        present &= ~is_stale(values)
        return Vector(self.labels, values, present), times_us

    def over(self, moments_us: Int64s, range_us: int, function: WindowFunction) -> Vector:
        """Apply a function to the window of `range_us` before each moment.

        A window excludes its beginning and includes its end.

        Raises:
            QueryTooBroad: the windows hold too many samples together.
        """
        ends = self._places(moments_us).ravel()
        starts = self._places(moments_us - range_us).ravel()
        cells = np.flatnonzero(ends > starts)
        runs = Runs(starts[cells], ends[cells] - starts[cells])
        if runs.total > _MAX_SAMPLES:
            raise QueryTooBroad(
                f"the windows of this query hold {runs.total} samples together, more than "
                f"{_MAX_SAMPLES}: ask for a longer step, a shorter range or fewer series"
            )
        values = np.full(len(ends), np.nan)
        present = np.zeros(len(ends), np.bool_)
        for block in _blocks(runs):
            some = cells[block]
            answers = function(self._windows(runs.picked(block), some, moments_us, range_us))
            values[some], present[some] = answers
        shape = (len(self.labels), len(moments_us))
        return Vector(self.labels, values.reshape(shape), present.reshape(shape))

    def _windows(self, runs: Runs, cells: Positions, moments_us: Int64s, range_us: int) -> Windows:
        places = runs.positions()
        columns = cells % len(moments_us)
        return Windows(
            self.values[places],
            self.times_us[places],
            Runs.of(runs.counts),
            moments_us[columns],
            range_us,
            columns,
            self.is_delta[cells // len(moments_us)],
        )

    def _places(self, moments_us: Int64s) -> Positions:
        """For each series and moment, the place of the first sample after the moment."""
        places = np.empty((len(self.labels), len(moments_us)), np.intp)
        for row, (start, end) in enumerate(pairwise(self.bounds.tolist())):
            places[row] = np.searchsorted(self.times_us[start:end], moments_us, side="right")
            places[row] += start
        return places


def _blocks(runs: Runs) -> list[Positions]:
    """Cut windows so that those of a block hold about `_BLOCK_SAMPLES` together."""
    filled = np.cumsum(runs.counts)
    cuts = np.searchsorted(filled, np.arange(_BLOCK_SAMPLES, runs.total, _BLOCK_SAMPLES))
    blocks = np.split(np.arange(len(runs.counts)), np.unique(cuts))
    return [block for block in blocks if len(block)]
