"""The steps of a span, and tables with one column for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Bools, Float64s, Int64s, Positions
from infrawatch.model.timerange import TimeRange

_WRAP = 1 << 64
"""Distances are unsigned and modulo 2^64: two int64 can lie further apart than int64 counts."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A span cut into half-open steps of equal length, the last one cut off where the span ends.

    Step i is [start + i*step, start + (i+1)*step) and is labelled with its beginning; an empty
    span has no steps. `step_us` is positive, both ends of the span fit int64, and `count` is for
    the caller to limit.
    """

    span: TimeRange
    step_us: int

    @property
    def count(self) -> int:
        return -(-self._span_us // self.step_us)

    @property
    def begins_us(self) -> Int64s:
        """Where each step begins, ascending."""
        distances = np.arange(self.count, dtype=np.uint64) * self._stride
        return (distances + self._origin).view(np.int64)

    @property
    def ends_us(self) -> Int64s:
        """Where each step ends: where the next one begins, or the span ends."""
        return np.append(self.begins_us, self.span.end_us)[1:]

    def indexes_of(self, times_us: Int64s) -> Int64s:
        """The step each time falls into; -1 where the time lies outside the span."""
        distances = times_us.view(np.uint64) - self._origin  # before the start they wrap around
        indexes = (distances // self._stride).view(np.int64)
        indexes[distances >= np.uint64(self._span_us)] = -1
        return indexes

    @property
    def _span_us(self) -> int:
        return self.span.end_us - self.span.start_us

    @property
    def _origin(self) -> np.uint64:
        return np.uint64(self.span.start_us % _WRAP)

    @property
    def _stride(self) -> np.uint64:
        # A step may exceed 64 bits; a length beyond that of the span makes no difference.
        return np.uint64(max(1, min(self.step_us, self._span_us)))


class CellValues(NamedTuple):
    """Cells of a table, numbered row by row from the top left, and their values."""

    cells: Positions
    values: Float64s


class Table(NamedTuple):
    """Answers: one row per series, or per combination of series, and one column per step.

    `empty` is true where there is no answer; `values` is NaN there, but NaN can be an answer too.
    """

    values: Float64s
    empty: Bools

    @classmethod
    def blank(cls, rows: int, columns: int) -> Self:
        """A table without any answer."""
        return cls(np.full((rows, columns), np.nan), np.ones((rows, columns), np.bool_))

    @classmethod
    def joined(cls, parts: "Sequence[Table]") -> "Table":
        """The rows of all parts, one after the other; there is at least one part."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def rows(self, which: slice) -> Self:
        """A slice of the rows, as a view: writing to it writes to this table."""
        return type(self)(self.values[which], self.empty[which])

    def fill(self, answers: CellValues) -> None:
        self.values.reshape(-1)[answers.cells] = answers.values
        self.empty.reshape(-1)[answers.cells] = False
