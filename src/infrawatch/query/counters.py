"""How much counters rose within a step: `increase`, and `rate` per second."""

from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Bools, Float64s, Int64s, Positions
from infrawatch.model.timerange import US
from infrawatch.query.functions import total
from infrawatch.query.placement import PlacedSamples
from infrawatch.query.steps import CellValues, Steps
from infrawatch.store.columns.ragged import Runs, are_first


class Gains(NamedTuple):
    """The gains of counters in each cell, and the times they cover; a gain counts where it ends.

    Columns with an entry for each cell that has gains.

    The gain of a sample is its difference to the previous sample, even if that lies in an earlier
    step or before the span. If the value fell, the counter restarted from 0, and the new value is
    the gain. The first sample of a series has no gain; a cell with no other sample is empty.
    Samples of delta series are gains themselves, each over the whole of its step.

    So the gains of adjacent steps add up, a counter of integers has integer gains, and what it
    gained during a gap counts at the next sample. Prometheus instead considers only the samples
    within a window, needs two of them, and extrapolates from the time they cover to the window's
    edges: the gain between the last sample of one window and the first of the next is estimated,
    not counted, and one scrape per step gives no result. Stale markers are skipped, as in
    Prometheus: the sample after one is compared with the one before it.
    """

    cells: Positions
    amounts: Float64s
    since_us: Int64s
    until_us: Int64s

    @classmethod
    def of(cls, samples: PlacedSamples, steps: Steps, is_delta: Bools) -> Self:
        """Find the gains that end within the span; `is_delta` tells which rows are delta series."""
        if not is_delta.any():
            return cls._between(samples)
        reported = is_delta[samples.rows]
        parts = (
            cls._between(samples.picked(~reported)),
            cls._reported(samples.picked(reported), steps),
        )
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @classmethod
    def _between(cls, samples: PlacedSamples) -> Self:
        runs = Runs.of_equal(samples.cells)
        is_first = are_first(samples.rows)
        amounts = np.diff(samples.values, prepend=0.0)
        np.copyto(amounts, samples.values, where=amounts < 0)
        amounts[is_first] = -0.0  # the neutral element of addition
        firsts = runs.starts + is_first[runs.starts]
        has_gains = (samples.cells[runs.starts] >= 0) & (firsts <= runs.lasts)
        return cls(
            samples.cells[runs.starts[has_gains]],
            total(amounts, runs)[has_gains],
            samples.times_us[firsts[has_gains] - 1],
            samples.times_us[runs.lasts[has_gains]],
        )

    @classmethod
    def _reported(cls, samples: PlacedSamples, steps: Steps) -> Self:
        inside = samples.inside()
        runs = Runs.of_equal(inside.cells)
        cells = inside.cells[runs.starts]
        indexes = cells % steps.count
        return cls(
            cells, total(inside.values, runs), steps.begins_us[indexes], steps.ends_us[indexes]
        )

    def increase(self) -> CellValues:
        """The sum of the gains of each cell, not extrapolated."""
        return CellValues(self.cells, self.amounts)

    def rate(self) -> CellValues:
        """The increase of each cell per second of the time its gains cover.

        That time runs from the sample before the first gain to the last sample of the step; for
        delta series it is the step. Prometheus divides an extrapolated increase by the window.
        """
        # Unsigned, since two int64 can lie further apart than int64 counts.
        covered_s = (self.until_us.view(np.uint64) - self.since_us.view(np.uint64)) / US
        return CellValues(self.cells, self.amounts / covered_s)
