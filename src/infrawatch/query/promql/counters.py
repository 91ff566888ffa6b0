"""`rate` and its relatives: how much a counter gained in a window, as Prometheus computes it.

Source: Prometheus, promql/functions.go. `query/counters.py` computes the same for `/v1/range`,
without estimates.
"""

import numpy as np

from infrawatch.model.samples import Bools, Float64s
from infrawatch.model.timerange import US
from infrawatch.query.promql.samples import Windows, WindowValues

_FAR = 1.1
"""A window's edge at least this many sample intervals away lies outside the series."""


def rate(windows: Windows) -> WindowValues:
    """The increase per second; for delta series, the sum divided by the window's length."""
    gained, present = increase(windows)
    return WindowValues(gained / (windows.range_us / US), present)


def increase(windows: Windows) -> WindowValues:
    """The increase, extrapolated to the window's edges; for delta series, the sum."""
    gained, present = _extrapolated(windows, _risen(windows), is_counter=True)
    added = np.add.reduceat(windows.values, windows.runs.starts)
    return WindowValues(np.where(windows.is_delta, added, gained), windows.is_delta | present)


def delta(windows: Windows) -> WindowValues:
    """The difference of a gauge, extrapolated to the edges of the window."""
    return _extrapolated(windows, windows.lasts - windows.firsts, is_counter=False)


def instant_rate(windows: Windows) -> WindowValues:
    """`irate`: per second between the last two samples."""
    before, last, seconds, present = _last_two(windows)
    gained = np.where(last < before, last, last - before)
    return WindowValues(gained / seconds, present & (seconds > 0))


def instant_delta(windows: Windows) -> WindowValues:
    """`idelta`: between the last two samples."""
    before, last, _, present = _last_two(windows)
    return WindowValues(last - before, present)


def resets(windows: Windows) -> WindowValues:
    """How often the value fell."""
    return _count(windows, windows.values[1:] < windows.values[:-1])


def changes(windows: Windows) -> WindowValues:
    """How often the value changed; NaN after NaN is not a change."""
    before, after = windows.values[:-1], windows.values[1:]
    return _count(windows, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def _count(windows: Windows, happened: Bools) -> WindowValues:
    """Count the events between neighbouring samples of each window."""
    counted = np.append(False, happened)  # a value
    counted[windows.runs.starts] = False
    totals = np.add.reduceat(counted, windows.runs.starts, dtype=np.int64)
    return WindowValues(totals.astype(np.float64), np.ones(len(totals), np.bool_))


def _risen(windows: Windows) -> Float64s:
    """The last sample minus the first, plus the values lost when a counter restarted."""
    before = np.append(np.nan, windows.values[:-1])
    has_fallen = windows.values < before
    has_fallen[windows.runs.starts] = False
    lost = np.add.reduceat(np.where(has_fallen, before, 0.0), windows.runs.starts)
    return windows.lasts - windows.firsts + lost


def _extrapolated(windows: Windows, gained: Float64s, *, is_counter: bool) -> WindowValues:
    """Extrapolate a gain to both edges of the window.

    An edge `_FAR` average sample intervals away or further is taken to be half an interval away,
    and a counter is not extrapolated below zero.
    """
    runs = windows.runs
    first_us, last_us = windows.times_us[runs.starts], windows.times_us[runs.lasts]
    covered = (last_us - first_us) / US
    before = (first_us - (windows.ends_us - windows.range_us)) / US
    after = (windows.ends_us - last_us) / US
    usual = covered / np.maximum(runs.counts - 1, 1)
    before = np.where(before >= usual * _FAR, usual / 2, before)
    after = np.where(after >= usual * _FAR, usual / 2, after)
    if is_counter:
        since_zero = covered * (windows.firsts / gained)
        is_near = (gained > 0) & (windows.firsts >= 0) & (since_zero < before)
        before = np.where(is_near, since_zero, before)
    return WindowValues(gained * ((covered + before + after) / covered), runs.counts > 1)


def _last_two(windows: Windows) -> tuple[Float64s, Float64s, Float64s, Bools]:
    """The last sample but one, the last, the seconds between, and whether there are two."""
    lasts = windows.runs.lasts
    present = windows.runs.counts > 1
    befores = np.where(present, lasts - 1, lasts)
    seconds = (windows.times_us[lasts] - windows.times_us[befores]) / US
    return windows.values[befores], windows.values[lasts], seconds, present
