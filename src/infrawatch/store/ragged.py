"""Runs of different lengths, one after the other in one flat array, worked on all at once."""

from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Bools, Int64s, Positions

_Scalar = TypeVar("_Scalar", bound=np.generic)

_PROBES = 8
"""Numbers of a run that are looked at first: so many random ones hardly ever share a divisor."""


def are_first(*columns: Int64s) -> Bools:
    """Where an entry differs from the one before in any of the columns; the first does.

    There is one column at least, and all are of one length.
    """
    first, *others = columns
    is_first = np.ones(len(first), np.bool_)
    np.not_equal(first[1:], first[:-1], out=is_first[1:])
    for column in others:
        is_first[1:] |= column[1:] != column[:-1]
    return is_first


class Runs(NamedTuple):
    """Run i holds the `counts[i]` numbers from `starts[i]` on.

    `least`, `largest`, `has_any` and `divisors` want runs that fill the array without holes and
    have at least one number each; the others take any.
    """

    starts: Int64s
    counts: Int64s

    @classmethod
    def of(cls, counts: Int64s) -> Self:
        """Runs of these lengths, one after the other, the first from 0 on."""
        return cls(np.cumsum(counts) - counts, counts)

    @classmethod
    def beginning(cls, is_first: Bools) -> Self:
        """Runs that fill an array and begin where the mask is true; its first entry is."""
        starts = np.flatnonzero(is_first).astype(np.int64, copy=False)
        return cls(starts, np.diff(starts, append=len(is_first)))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def lasts(self) -> Int64s:
        return self.starts + self.counts - 1

    def picked(self, which: Bools | Positions) -> Self:
        """Some of the runs, left where they are."""
        return type(self)(self.starts[which], self.counts[which])

    def cut(self, most: Int64s) -> "tuple[Runs, Int64s]":
        """Pieces of run i of at most `most[i]` numbers, and which run each is of."""
        parts = Runs.of(-(-self.counts // most))
        run_of = parts.spread(np.arange(len(most)))
        firsts = parts.indexes() * most[run_of]
        counts = np.minimum(self.counts[run_of] - firsts, most[run_of])
        return Runs(self.starts[run_of] + firsts, counts), run_of

    def spread(self, per_run: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Say for each number what is given for its run."""
        return np.repeat(per_run, self.counts)

    def indexes(self) -> Int64s:
        """Each number's place within its run, from 0."""
        return np.arange(self.total) - self.spread(Runs.of(self.counts).starts)

    def positions(self) -> Positions:
        """Each number's place in the flat array, run by run."""
        return np.arange(self.total) + self.spread(self.starts - Runs.of(self.counts).starts)

    def least(self, numbers: Int64s) -> Int64s:
        return np.minimum.reduceat(numbers, self.starts)

    def largest(self, numbers: Int64s) -> Int64s:
        return np.maximum.reduceat(numbers, self.starts)

    def has_any(self, flags: Bools) -> Bools:
        return np.logical_or.reduceat(flags, self.starts)

    def probes(self) -> Positions:
        """A few positions of each run, evenly spaced up to its last: a row for each run."""
        places = np.arange(1, _PROBES + 1)
        return self.starts[:, np.newaxis] + (self.counts[:, np.newaxis] - 1) * places // _PROBES

    def divisors(self, numbers: Int64s) -> Int64s:
        """The greatest common divisor of each run of numbers >= 0; 1 where all are zero."""
        # A gcd costs several times a remainder: guess from a few numbers, then check all of them.
        guesses = np.gcd(np.gcd.reduce(numbers[self.probes()], axis=1), self.largest(numbers))
        divisors = np.maximum(guesses, 1)
        unsure = np.flatnonzero(divisors > 1)
        if unsure.size:
            some = self.picked(unsure)
            among, runs = numbers[some.positions()], Runs.of(some.counts)
            is_wrong = runs.has_any(among % runs.spread(divisors[unsure]) != 0)
            wrong = runs.picked(is_wrong)
            divisors[unsure[is_wrong]] = np.gcd.reduceat(
                among[wrong.positions()], Runs.of(wrong.counts).starts
            )
        return divisors
