"""How much counters rose within a step: `increase`, and `rate` per second."""

from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Float64s, Int64s
from infrawatch.model.timerange import US
from infrawatch.query.functions import total
from infrawatch.query.runs import Placed, Runs
from infrawatch.query.steps import Answers, Bools, Positions, Steps


class Gains(NamedTuple):
    """What counters gained, and from when to when; each gain counts in the cell it ends in.

    Columns, in which the gains of one cell are neighbours, earliest first.

    A sample gained its difference to the sample before it, wherever that lies: in an earlier step
    or before the span. If the value fell, the counter had started again from 0, and the new value
    is the gain. The first sample of all has nothing before it and no gain; a cell with no other is
    empty. Samples of delta series are gains themselves, each over the whole of its step.

    So the gains of adjacent steps add up to those of both, a counter of integers gains integers,
    and what it gained in silence counts where it is heard again. Prometheus instead looks only at
    the samples within a window, needs two of them, and extrapolates from the time they cover to the
    window's edges: what was gained between the last sample of one window and the first of the next
    is estimated, not counted, and one scrape per step gives nothing. Stale markers are skipped
    here as they are there: the sample after one is compared with the one before it.
    """

    cells: Positions
    amounts: Float64s
    since_us: Int64s
    until_us: Int64s

    @classmethod
    def of(cls, samples: Placed, steps: Steps, is_delta: Bools) -> Self:
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
    def _between(cls, samples: Placed) -> Self:
        follows = (samples.rows[1:] == samples.rows[:-1]) & (samples.cells[1:] >= 0)
        earlier = np.flatnonzero(follows)
        later = earlier + 1
        values = samples.values[later]
        differences = values - samples.values[earlier]
        return cls(
            samples.cells[later],
            np.where(differences < 0, values, differences),
            samples.times_us[earlier],
            samples.times_us[later],
        )

    @classmethod
    def _reported(cls, samples: Placed, steps: Steps) -> Self:
        inside = samples.inside()
        indexes = inside.cells % steps.count
        return cls(inside.cells, inside.values, steps.begins_us[indexes], steps.ends_us[indexes])

    def increase(self) -> Answers:
        """The sum of the gains of each cell, not extrapolated."""
        runs = Runs.of(self.cells)
        return Answers(self.cells[runs.starts], total(self.amounts, runs))

    def rate(self) -> Answers:
        """The increase of each cell per second of the time its gains cover.

        That is from the sample before the first gain to the last sample of the step, where
        Prometheus divides an extrapolated increase by the window; of delta series, the step.
        """
        runs = Runs.of(self.cells)
        # Unsigned, since two int64 can lie further apart than int64 counts.
        until_us = self.until_us[runs.lasts].view(np.uint64)
        covered_s = (until_us - self.since_us[runs.starts].view(np.uint64)) / US
        return Answers(self.cells[runs.starts], total(self.amounts, runs) / covered_s)
