"""Ragged arrays: runs of different lengths in one flat array, processed all at once."""

from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Bools, Int64s, Positions

_Scalar = TypeVar("_Scalar", bound=np.generic)

_PROBES = 8
"""Numbers of a run examined first: this many random ones hardly ever share a divisor."""


def are_first(*columns: Int64s) -> Bools:
    """Where an entry differs from its predecessor in any column; true for the first entry.

    At least one column is needed, and all must have the same length.
    """
    first, *others = columns
    is_first = np.ones(len(first), np.bool_)
    np.not_equal(first[1:], first[:-1], out=is_first[1:])
    for column in others:
        is_first[1:] |= column[1:] != column[:-1]
    return is_first


def scattered(numbers: Int64s, where: Bools | Positions, length: int) -> Int64s:
    """Return a column of this length with the numbers there, and zeros elsewhere."""
    column = np.zeros(length, np.int64)
    column[where] = numbers
    return column


class Runs(NamedTuple):
    """Run i holds the `counts[i]` numbers from `starts[i]` on.

    `least`, `largest`, `has_any`, `steps` and `divide` require non-empty runs that fill the array
    without gaps; the other methods accept any runs.
    """

    starts: Int64s
    counts: Int64s

    @classmethod
    def of(cls, counts: Int64s) -> Self:
        """Make consecutive runs of these lengths, the first beginning at 0."""
        return cls(np.cumsum(counts) - counts, counts)

    @classmethod
    def at(cls, starts: Int64s, end: int) -> Self:
        """Make runs that begin there, each up to the next one, and the last up to `end`."""
        ends = np.empty_like(starts)  # `np.diff` with `append` takes several times as long for few
        ends[:-1] = starts[1:]
        ends[-1:] = end
        return cls(starts, ends - starts)

    @classmethod
    def beginning(cls, is_first: Bools) -> Self:
        """Make runs that fill an array and begin where the mask is true; its first entry is."""
        starts = np.flatnonzero(is_first).astype(np.int64, copy=False)
        return cls.at(starts, len(is_first))

    @classmethod
    def of_equal(cls, *columns: Int64s) -> Self:
        """Make runs of neighbours that are equal in every column; they fill the array."""
        return cls.beginning(are_first(*columns))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def seconds(self) -> Int64s:
        """The position of each run's second number; of its only one if there is no other."""
        return np.minimum(self.starts + 1, self.lasts)

    @property
    def lasts(self) -> Int64s:
        return self.starts + self.counts - 1

    def picked(self, which: Bools | Positions) -> Self:
        """Return some of the runs, at unchanged positions."""
        return type(self)(self.starts[which], self.counts[which])

    def cut(self, limits: Int64s) -> "tuple[Runs, Int64s]":
        """Cut run i into pieces of at most `limits[i]` numbers; return them and the run of each."""
        parts = Runs.of(-(-self.counts // limits))
        run_of = parts.spread(np.arange(len(limits)))
        firsts = parts.indexes() * limits[run_of]
        counts = np.minimum(self.counts[run_of] - firsts, limits[run_of])
        return Runs(self.starts[run_of] + firsts, counts), run_of

    def spread(self, per_run: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Repeat the value of each run for each of its numbers."""
        return np.repeat(per_run, self.counts)

    def indexes(self) -> Int64s:
        """Return each number's index within its run, from 0."""
        return np.arange(self.total) - self.spread(Runs.of(self.counts).starts)

    def positions(self) -> Positions:
        """Return each number's position in the flat array, run by run."""
        if (self.counts[1:] == self.counts[:-1]).all():
            # The usual case, in one pass: sources send all their series equally often.
            width = self.counts[:1].max(initial=0)
            return (self.starts[:, np.newaxis] + np.arange(width)).reshape(-1)
        return np.arange(self.total) + self.spread(self.starts - Runs.of(self.counts).starts)

    def gathered(self, numbers: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Return the numbers of these runs, run by run."""
        width = int(self.counts[:1].max(initial=0))
        if width == 0 or len(numbers) % width or (self.counts != width).any():
            return numbers[self.positions()]
        rows, offsets = np.divmod(self.starts, width)
        if offsets.any():
            return numbers[self.positions()]
        # The usual case: whole rows of a matrix are copied, not one number at a time.
        return numbers.reshape(-1, width)[rows].reshape(-1)

    def overlapped_by(self, others: "Runs") -> Int64s:
        """Return how many of these runs, which leave no gaps, each of the others overlaps."""
        firsts = np.searchsorted(self.starts, others.starts, "right") - 1
        ends: Int64s = np.searchsorted(self.starts, others.starts + others.counts)
        return ends - firsts

    def places(self) -> Positions | slice:
        """Return what selects the numbers, run by run: a slice if they are adjacent."""
        ends = self.starts + self.counts
        if len(ends) > 0 and (self.starts[1:] == ends[:-1]).all():
            return slice(int(self.starts[0]), int(ends[-1]))
        return self.positions()

    def least(self, numbers: Int64s) -> Int64s:
        return np.minimum.reduceat(numbers, self.starts)

    def largest(self, numbers: Int64s) -> Int64s:
        return np.maximum.reduceat(numbers, self.starts)

    def has_any(self, flags: Bools) -> Bools:
        return np.logical_or.reduceat(flags, self.starts)

    def steps(self, numbers: Int64s) -> tuple[Int64s, Bools]:
        """Return the step from each run's first number to its second, and whether others differ.

        The step of a run of one number is 0.
        """
        steps = numbers[self.seconds] - numbers[self.starts]
        is_off = np.zeros(len(numbers), np.bool_)
        np.not_equal(np.diff(numbers), self.spread(steps)[1:], out=is_off[1:])
        is_off[self.starts] = False
        return steps, self.has_any(is_off) if is_off.any() else np.zeros(len(steps), np.bool_)

    def probes(self) -> Positions:
        """Return a few evenly spaced positions of each run, up to its last: one row per run."""
        places = np.arange(1, _PROBES + 1)
        return self.starts[:, np.newaxis] + (self.counts[:, np.newaxis] - 1) * places // _PROBES

    def divide(self, numbers: Int64s) -> Int64s:
        """Divide each run by its greatest common divisor, in place; return the divisors.

        A run of zeros has the divisor 1.
        """
        # A gcd costs several times a division: guess from a few numbers, then try it on all.
        guesses = np.gcd.reduce(numbers[self.probes()], axis=1)
        for extreme in (self.least(numbers), self.largest(numbers)):
            np.gcd(guesses, extreme, out=guesses)
        divisors: Int64s = np.maximum(guesses, 1)
        unsure = np.flatnonzero(divisors > 1)
        if unsure.size:
            some = self.picked(unsure)
            places, runs = some.places(), Runs.of(some.counts)
            among, by = numbers[places], some.spread(divisors[unsure])
            # A tenth of the cost of dividing integers, and exact where it matters: a quotient that
            # was rounded does not give the number back, and its run is treated as a wrong guess.
            quotients = (among / by).astype(np.int64)
            wrong = np.flatnonzero(runs.has_any(quotients * by != among))
            if wrong.size:
                others = runs.picked(wrong).positions()
                rest, counts = among[others], runs.counts[wrong]
                right = np.gcd.reduceat(rest, Runs.of(counts).starts)
                quotients[others] = rest // np.repeat(right, counts)
                divisors[unsure[wrong]] = right
            numbers[places] = quotients
        return divisors
