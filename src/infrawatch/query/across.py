"""Combines many series into few, as `across` and `by` request."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from infrawatch.model.samples import Positions
from infrawatch.query.steps import Table


class Across(StrEnum):
    """How several series become one."""

    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    COUNT = "count"


def combine(table: Table, across: Across, *, into: Positions, rows: int) -> Table:
    """Combine rows of a table step by step: row i goes into row `into[i]` of the result's `rows`.

    Only rows with an answer in a step take part there. A step without any is empty, so `count`, the
    number of rows that take part, is never 0. NaN propagates, infinities follow
    IEEE 754. Sums are pairwise in the order of the rows: the same table gives the same bits.
    """
    order = np.argsort(into, kind="stable")
    targets = into[order]
    starts = np.flatnonzero(np.diff(targets, prepend=-1))
    empty = table.empty[order]
    counts = np.add.reduceat(~empty, starts, axis=0, dtype=np.int64)
    if across is Across.COUNT:
        answers = counts.astype(np.float64)
    else:
        function, neutral = _REDUCTIONS[across]
        values = table.values[order]
        values[empty] = neutral
        with np.errstate(over="ignore", invalid="ignore"):
            answers = function.reduceat(values, starts, axis=0)
            if across is Across.AVG:
                answers /= counts
    combined = Table.blank(rows, table.values.shape[1])
    combined.empty[targets[starts]] = counts == 0
    combined.values[targets[starts]] = np.where(counts == 0, np.nan, answers)
    return combined


_REDUCTIONS: Mapping[Across, tuple[np.ufunc, float]] = MappingProxyType(
    {
        Across.SUM: (np.add, -0.0),  # 0.0 would turn a sum of nothing but -0.0 into 0.0
        Across.AVG: (np.add, -0.0),
        Across.MIN: (np.minimum, np.inf),
        Across.MAX: (np.maximum, -np.inf),
    }
)
"""The function that combines two values, and its neutral value, which replaces empty steps."""
