"""`infrawatch serve` that never rests: all of upkeep all the time, open windows merged too.

A program of its own, because it is there to be killed.
"""

from datetime import datetime, timedelta

from infrawatch.__main__ import main
from infrawatch.model.timerange import from_us, now_us
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.upkeep import compaction, full_windows, scheduler


def _always_a_little_later() -> datetime:
    return from_us(now_us() + WINDOW_US)


if __name__ == "__main__":
    scheduler.COMPACT_EVERY_S = 0.03
    scheduler.MERGE_EVERY_S = 0.03
    scheduler.EMPTY_EVERY_S = 0.1
    scheduler.RETAIN_EVERY_S = 0.1
    scheduler.WRITER_KEPT = timedelta(seconds=5)
    compaction.MAX_AGE_S = 0
    compaction.PASS_SAMPLES = 200
    compaction.MERGE_SAMPLES = 1
    full_windows.FULL_BUCKETS = 2
    full_windows.MAX_WINDOWS = 2
    compaction.closed_until = _always_a_little_later
    main()
