"""Bounds on the times of samples: not older than retention, not much newer than now."""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.verdicts import MAX_SHOWN, Verdict
from infrawatch.model.samples import Bools, Int64s
from infrawatch.model.timerange import FAR_FUTURE_US, duration_us, from_us

_UNITS = {
    1: "nanoseconds",
    10**3: "microseconds",
    10**6: "milliseconds",
    10**9: "seconds",
    60 * 10**9: "minutes",
    3_600 * 10**9: "hours",
}


class TimeBounds(NamedTuple):
    """The allowed times, relative to the clock `now_us`; `retention` None keeps everything.

    There is one partition per day, so without retention `max_past` limits how many partitions
    senders can create.
    """

    retention: timedelta | None
    max_past: timedelta
    max_future: timedelta
    now_us: Callable[[], int]

    def check(self, decoded: Decoded, kept: Bools | None = None) -> Bools | None:
        """Add a verdict for each of the kept samples that is out of bounds.

        Returns the samples kept; None, as argument or result, means all of them.
        """
        unit_ns, now_us = decoded.unit_ns, self.now_us()
        past_us = min(duration_us(self.max_past), duration_us(self.retention or self.max_past))
        earliest_us = max(now_us - past_us, 0)
        latest_us = min(now_us + duration_us(self.max_future), FAR_FUTURE_US - 1)
        # Compare in the sender's unit, because converting an extreme time would overflow.
        times = decoded.times
        earliest, latest = -(-earliest_us * 1000 // unit_ns), latest_us * 1000 // unit_ns
        if not len(times) or (times.min() >= earliest and times.max() <= latest):
            return kept  # as nearly always
        is_old, is_future = times < earliest, times > latest
        if kept is not None:
            is_old, is_future = is_old & kept, is_future & kept
        wrong = is_old | is_future
        if not wrong.any():
            return kept
        bounds_us = (earliest_us, latest_us)
        self._refuse(decoded, is_old, "too_old", bounds_us)
        self._refuse(decoded, is_future, "too_far_in_future", bounds_us)
        return ~wrong if kept is None else kept & ~wrong

    def _refuse(
        self, decoded: Decoded, which: Bools, code: str, bounds_us: tuple[int, int]
    ) -> None:
        positions = np.flatnonzero(which)
        if not len(positions):
            return
        starts = np.cumsum(decoded.counts) - decoded.counts
        why = self._too_old(bounds_us[0]) if code == "too_old" else _too_new(bounds_us[1])
        for position in positions[:MAX_SHOWN].tolist():
            series = int(np.searchsorted(starts, position, side="right")) - 1
            index, locator = decoded.locate(series, position - int(starts[series]))
            read = _read_as(decoded, position, bounds_us)
            decoded.verdicts.add(Verdict(index, locator, code, read.format(why)))
        more = max(len(positions) - MAX_SHOWN, 0)
        decoded.verdicts.count_only(code, verdicts=more, samples=more)

    def _too_old(self, earliest_us: int) -> str:
        is_limit = self.retention is None or self.max_past < self.retention
        setting = "INFRAWATCH_MAX_PAST" if is_limit else "INFRAWATCH_RETENTION"
        return f"before {_second(earliest_us)}, the oldest that {setting} allows"


def _too_new(latest_us: int) -> str:
    return f"after {_second(latest_us)}, the newest that INFRAWATCH_MAX_FUTURE allows"


def _second(time_us: int) -> str:
    return from_us(time_us).isoformat(timespec="seconds")


def _read_as(decoded: Decoded, position: int, bounds_us: tuple[int, int]) -> str:
    """Format a time as written, with a placeholder for the error and a hint at the likely unit."""
    unit_ns = decoded.written_unit_ns or decoded.unit_ns
    written = int(decoded.times[position]) * decoded.unit_ns // unit_ns
    earliest_us, latest_us = bounds_us
    fits = (
        name for unit, name in _UNITS.items() if earliest_us <= written * unit // 1000 <= latest_us
    )
    hint = next((f"; is it in {name}?" for name in fits), "")
    return f"{written}, read as {_UNITS[unit_ns]}, is {{}}{hint}"


def to_us(times: Int64s, unit_ns: int) -> Int64s:
    """Convert times within bounds to microseconds; finer times are floored."""
    if unit_ns >= 1000:  # noqa: PLR2004  # nanoseconds in a microsecond
        return times * np.int64(unit_ns // 1000)
    return times // np.int64(1000 // unit_ns)
