"""Samples by the cell of the table they fall into, and the runs they form there."""

from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import (
    Bools,
    Columns,
    Float64s,
    Int64s,
    Positions,
    is_stale,
    series_bounds,
)
from infrawatch.query.steps import Steps


class Placed(NamedTuple):
    """Samples that functions see, as columns sorted by (series, time): no stale markers.

    `rows` counts the series from 0. `cells` counts the cells of the table of series and steps row
    by row, so it is sorted as well, but for -1 where a sample lies outside the span.
    """

    rows: Positions
    cells: Positions
    times_us: Int64s
    values: Float64s

    @classmethod
    def of(cls, columns: Columns, steps: Steps) -> Self:
        """Place samples that are sorted by (series, time)."""
        lengths = np.diff(series_bounds(columns.series_ids))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        indexes = steps.indexes_of(columns.times_us)
        cells = np.repeat(np.arange(len(lengths)) * steps.count, lengths) + indexes
        cells[indexes < 0] = -1
        placed = cls(rows, cells, columns.times_us, columns.values)
        return placed.picked(~is_stale(columns.values))

    def picked(self, which: Bools) -> Self:
        """The samples where the mask is true."""
        if which.all():
            return self
        return type(self)(
            self.rows[which], self.cells[which], self.times_us[which], self.values[which]
        )

    def inside(self) -> Self:
        """The samples within the span."""
        return self.picked(self.cells >= 0)


class Runs(NamedTuple):
    """Neighbours that share a cell: where each run starts, how many it has (never none)."""

    starts: Positions
    counts: Positions

    @classmethod
    def of(cls, cells: Positions) -> Self:
        """Find the runs of equal neighbours."""
        if len(cells) == 0:
            return cls(np.empty(0, np.intp), np.empty(0, np.intp))
        starts = np.append(0, np.flatnonzero(cells[1:] != cells[:-1]) + 1)
        return cls(starts, np.diff(starts, append=len(cells)))

    @property
    def lasts(self) -> Positions:
        return self.starts + self.counts - 1

    def spread(self, per_run: Float64s) -> Float64s:
        """Say for each member what is given for its run."""
        return np.repeat(per_run, self.counts)
