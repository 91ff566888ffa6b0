"""Answers from rollups, where they are equivalent to the samples."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from infrawatch.model.samples import Float64s, series_bounds
from infrawatch.model.timerange import US, TimeRange
from infrawatch.query.functions import Function
from infrawatch.query.steps import CellValues, Steps, Table
from infrawatch.store.columns.ragged import Runs
from infrawatch.store.rollups.buckets import RESOLUTIONS, Buckets, Resolution

_PAYS_OFF_US = 6 * 3600 * US
"""In shorter spans, most samples are in windows that are not rolled up yet."""


def _average(buckets: Buckets, runs: Runs) -> Float64s:
    return np.add.reduceat(buckets.sums, runs.starts) / np.add.reduceat(buckets.counts, runs.starts)


_ANSWERS: Mapping[Function, Callable[[Buckets, Runs], Float64s]] = MappingProxyType(
    {
        Function.AVG: _average,
        Function.SUM: lambda buckets, runs: np.add.reduceat(buckets.sums, runs.starts),
        Function.COUNT: lambda buckets, runs: np.add.reduceat(buckets.counts, runs.starts),
        Function.MIN: lambda buckets, runs: np.minimum.reduceat(buckets.least, runs.starts),
        Function.MAX: lambda buckets, runs: np.maximum.reduceat(buckets.largest, runs.starts),
        Function.LAST: lambda buckets, runs: buckets.lasts[runs.lasts],
    }
)


def find_resolution(function: Function, steps: Steps) -> Resolution | None:
    """The coarsest rollup that divides steps into whole buckets; None if samples must be read."""
    start_us, end_us = steps.span
    if function not in _ANSWERS or end_us - start_us < _PAYS_OFF_US:
        return None
    for resolution in RESOLUTIONS:
        if start_us % resolution.bucket_us == steps.step_us % resolution.bucket_us == 0:
            return resolution
    return None


def from_whole_bucket(function: Function, steps: Steps) -> Steps:
    """Move the start back to where a bucket begins, if rollups can then answer the steps.

    For a start relative to now, which would hardly ever be where a bucket begins.
    """
    start_us, end_us = steps.span
    for resolution in RESOLUTIONS:
        earlier = TimeRange(start_us // resolution.bucket_us * resolution.bucket_us, end_us)
        moved = replace(steps, span=earlier)
        if find_resolution(function, moved) is resolution:
            return moved
    return steps


def is_rolled_up(function: Function) -> bool:
    """Whether rollups can answer this function, however long the samples have been gone."""
    return function in _ANSWERS


def aggregate_buckets(buckets: Buckets, steps: Steps, function: Function) -> Table:
    """Compute `function` for every series of `buckets` in every step, as `aggregate` does.

    Takes buckets of the span, sorted by (series, time). A bucket that lies in two steps counts in
    the step in which it begins.
    """
    bounds = series_bounds(buckets.series_ids)
    table = Table.blank(len(bounds) - 1, steps.count)
    rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    cells = rows * steps.count + steps.indexes_of(buckets.times_us)
    runs = Runs.of_equal(cells)
    with np.errstate(over="ignore", invalid="ignore"):
        table.fill(CellValues(cells[runs.starts], _ANSWERS[function](buckets, runs)))
    return table
