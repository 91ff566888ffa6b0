"""Times a sample may have: not older than retention, hardly newer than now."""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.verdicts import MAX_SHOWN, Verdict
from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import FAR_FUTURE_US, duration_us, from_us

Bools = NDArray[np.bool_]

_UNITS = {
    1: "nanoseconds",
    10**3: "microseconds",
    10**6: "milliseconds",
    10**9: "seconds",
    60 * 10**9: "minutes",
    3_600 * 10**9: "hours",
}


class TimeBounds(NamedTuple):
    """`retention` None keeps everything; `now_us` is the clock all of them count from.

    What is kept for ever is cut into a partition a day, so `max_past` is how many of them senders
    can make.
    """

    retention: timedelta | None
    max_past: timedelta
    max_future: timedelta
    now_us: Callable[[], int]

    def check(self, decoded: Decoded, kept: Bools | None = None) -> Bools | None:
        """Add a verdict for each of the kept samples that is out of bounds.

        Tells which are kept then; None stands for all of them, in and out.
        """
        unit_ns, now_us = decoded.unit_ns, self.now_us()
        past_us = min(duration_us(self.max_past), duration_us(self.retention or self.max_past))
        earliest_us = max(now_us - past_us, 0)
        latest_us = min(now_us + duration_us(self.max_future), FAR_FUTURE_US - 1)
        # Compared in the sender's unit, because converting an absurd time would overflow.
        is_old = decoded.times < -(-earliest_us * 1000 // unit_ns)
        is_future = decoded.times > latest_us * 1000 // unit_ns
        if kept is not None:
            is_old, is_future = is_old & kept, is_future & kept
        wrong = is_old | is_future
        if not wrong.any():
            return kept
        self._refuse(decoded, is_old, "too_old", self._too_old(earliest_us, unit_ns))
        self._refuse(decoded, is_future, "too_far_in_future", self._too_new(latest_us, unit_ns))
        return ~wrong if kept is None else kept & ~wrong

    def _too_old(self, earliest_us: int, unit_ns: int) -> str:
        return (
            f"before {from_us(earliest_us).isoformat(timespec='seconds')}, read as "
            f"{_UNITS[unit_ns]}: older than {self._oldest_setting()}"
        )

    def _oldest_setting(self) -> str:
        if self.retention is None or self.max_past < self.retention:
            return "INFRAWATCH_MAX_PAST allows"
        return "INFRAWATCH_RETENTION keeps"

    def _too_new(self, latest_us: int, unit_ns: int) -> str:
        return (
            f"after {from_us(latest_us).isoformat(timespec='seconds')}, read as "
            f"{_UNITS[unit_ns]}: further ahead of the server's clock than INFRAWATCH_MAX_FUTURE"
        )

    def _refuse(self, decoded: Decoded, which: Bools, code: str, detail: str) -> None:
        positions = np.flatnonzero(which)
        if not len(positions):
            return
        starts = np.cumsum(decoded.counts) - decoded.counts
        for position in positions[:MAX_SHOWN].tolist():
            series = int(np.searchsorted(starts, position, side="right")) - 1
            index, locator = decoded.locate(series, position - int(starts[series]))
            decoded.verdicts.add(Verdict(index, locator, code, detail))
        more = max(len(positions) - MAX_SHOWN, 0)
        decoded.verdicts.count_only(code, verdicts=more, samples=more)


def to_us(times: Int64s, unit_ns: int) -> Int64s:
    """Times within bounds as microseconds; finer ones are floored."""
    if unit_ns >= 1000:  # noqa: PLR2004  # nanoseconds in a microsecond
        return times * np.int64(unit_ns // 1000)
    return times // np.int64(1000 // unit_ns)
