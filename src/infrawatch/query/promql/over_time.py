"""`avg_over_time` and its relatives: one number for the samples of a window.

Source: Prometheus, promql/functions.go.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from infrawatch.model.samples import Float64s, Int64s
from infrawatch.model.timerange import US
from infrawatch.query.functions import sorted_within_runs
from infrawatch.query.promql import counters
from infrawatch.query.promql.samples import WindowFunction, Windows, WindowValues


def quantile(quantiles: Float64s, windows: Windows) -> WindowValues:
    """Interpolate between the closest ranks; NaN ranks lowest. There is a quantile per moment."""
    runs = windows.runs
    is_nan = np.isnan(windows.values)
    nans = np.add.reduceat(is_nan, runs.starts, dtype=np.int64)
    ordered = sorted_within_runs(np.where(is_nan, -np.inf, windows.values), runs)
    ordered[np.flatnonzero(runs.indexes() < runs.spread(nans))] = np.nan
    return _present(between_ranks(ordered, runs.starts, runs.counts, quantiles[windows.columns]))


def predict(seconds: Float64s, windows: Windows) -> WindowValues:
    """`predict_linear`: the value of the fitted line `seconds` after the moment."""
    slope, at_end = _line(windows, windows.ends_us)
    return WindowValues(slope * seconds[windows.columns] + at_end, windows.runs.counts > 1)


def between_ranks(
    ordered: Float64s, starts: Int64s, counts: Int64s, quantiles: Float64s
) -> Float64s:
    """The quantiles of sorted runs, each of at least one number."""
    ranks = np.clip(np.nan_to_num(quantiles), 0, 1) * (counts - 1)
    weights = ranks % 1
    lower = ordered[starts + np.floor(ranks).astype(np.intp)]
    upper = ordered[starts + np.minimum(np.floor(ranks).astype(np.intp) + 1, counts - 1)]
    answers = lower * (1 - weights) + upper * weights
    answers = np.where(quantiles < 0, -np.inf, np.where(quantiles > 1, np.inf, answers))
    return np.where(np.isnan(quantiles), np.nan, answers)


def _present(values: Float64s) -> WindowValues:
    return WindowValues(values, np.ones(len(values), np.bool_))


def _sum(values: Float64s, windows: Windows) -> Float64s:
    total: Float64s = np.add.reduceat(values, windows.runs.starts)
    return total


def _mean(windows: Windows) -> Float64s:
    return _sum(windows.values, windows) / windows.runs.counts


def _variance(windows: Windows) -> Float64s:
    """Population variance, in two passes."""
    distances = windows.values - windows.runs.spread(_mean(windows))
    squares: Float64s = _sum(np.square(distances), windows) / windows.runs.counts
    return squares


def _deviation(windows: Windows) -> Float64s:
    return np.sqrt(_variance(windows))


def _line(windows: Windows, from_us: Int64s) -> tuple[Float64s, Float64s]:
    """The line of least squares: its slope per second, and its value at a time of each window."""
    runs = windows.runs
    x = (windows.times_us - runs.spread(from_us)) / US
    x_mean = _sum(x, windows) / runs.counts
    y_mean = _mean(windows)
    x_distances = x - runs.spread(x_mean)
    covariance = _sum(x_distances * (windows.values - runs.spread(y_mean)), windows)
    slope = covariance / _sum(np.square(x_distances), windows)
    return slope, y_mean - slope * x_mean


def _slope(windows: Windows) -> WindowValues:
    """`deriv`: per second."""
    slope, _ = _line(windows, windows.times_us[windows.runs.starts])
    return WindowValues(slope, windows.runs.counts > 1)


def _always(function: Callable[[Windows], Float64s]) -> WindowFunction:
    return lambda windows: _present(function(windows))


WINDOW_FUNCTIONS: Mapping[str, WindowFunction] = MappingProxyType(
    {
        "avg_over_time": _always(_mean),
        "changes": counters.changes,
        "count_over_time": _always(lambda windows: windows.runs.counts.astype(np.float64)),
        "delta": counters.delta,
        "deriv": _slope,
        "first_over_time": _always(lambda windows: windows.firsts),
        "idelta": counters.instant_delta,
        "increase": counters.increase,
        "irate": counters.instant_rate,
        "last_over_time": _always(lambda windows: windows.lasts),
        "max_over_time": _always(lambda w: np.fmax.reduceat(w.values, w.runs.starts)),
        "min_over_time": _always(lambda w: np.fmin.reduceat(w.values, w.runs.starts)),
        "present_over_time": _always(lambda windows: np.ones(len(windows.ends_us))),
        "rate": counters.rate,
        "resets": counters.resets,
        "stddev_over_time": _always(_deviation),
        "stdvar_over_time": _always(_variance),
        "sum_over_time": _always(lambda windows: _sum(windows.values, windows)),
    }
)
"""Functions that take only a range."""

WITH_PARAMETER: Mapping[str, Callable[[Float64s], WindowFunction]] = MappingProxyType(
    {
        "predict_linear": lambda seconds: partial(predict, seconds),
        "quantile_over_time": lambda quantiles: partial(quantile, quantiles),
    }
)
"""Functions that also take a number, one for each moment."""

KEEP_NAME = frozenset({"first_over_time", "last_over_time"})
"""Functions that keep the metric's name, because their values are still those of the metric."""
