"""Assigns samples to the cells of a table."""

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


class PlacedSamples(NamedTuple):
    """Samples without stale markers, as columns sorted by (series, time).

    `rows` numbers the series from 0. `cells` numbers the cells of the table of series and steps row
    by row, so it is sorted as well, except for -1 where a sample lies outside the span.
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
