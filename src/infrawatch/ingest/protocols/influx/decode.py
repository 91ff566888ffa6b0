"""Line protocol: bytes → columns and verdicts."""

import numpy as np

from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.protocols.influx.fields import decode_fields
from infrawatch.ingest.protocols.influx.lines import decode_lines
from infrawatch.ingest.protocols.influx.regular import decode_regular
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.series.layouts import Layouts
from infrawatch.model.samples import Int64s

_NS_PER_US = 1_000
_NS_PER_S = 1_000_000_000

_SHORTEST_LINE_BYTES = len(b"m f=1 1\n")
"""The shortest line of the regular forms, which are not tried if lines are shorter on average."""

_OFF_LOOP_BYTES = 1024 * 1024
_OFF_LOOP_LINES = 20_000
"""Limits for the regular forms; reading this much takes 3 to 20 ms."""

_SINGLY_OFF_LOOP_BYTES = 64 * 1024
_SINGLY_OFF_LOOP_LINES = 2_000
"""Limits for all other bodies, which are read line by line; this much takes 5 to 20 ms."""

_BOUNDS_S = (5 * _NS_PER_S, 5_000 * _NS_PER_S, 5_000_000 * _NS_PER_S)
"""Times below the first are seconds, below the second milliseconds, below the third microseconds;
all others are nanoseconds."""


def decode(
    body: bytes,
    unit_ns: int | None,
    now_ns: int,
    find: Find,
    layouts: Layouts | None = None,
    *,
    on_loop: bool = False,
) -> Decoded:
    """Read a body of line protocol; all errors become verdicts.

    Without `unit_ns`, the unit of each time is inferred from its magnitude, as in InfluxDB 3. Lines
    without a time get `now_ns`, floored to the unit, as in InfluxDB.

    Raises:
        BlocksLoop: on the loop only, if it would take too long.
    """
    is_newline = np.frombuffer(body, np.uint8) == ord("\n")
    unit, lines = unit_ns or 1, int(np.count_nonzero(is_newline))
    is_long = len(body) > _OFF_LOOP_BYTES or lines > _OFF_LOOP_LINES
    check_budget(on_loop=on_loop, is_long=is_long)
    decoded = None
    if len(body) >= _SHORTEST_LINE_BYTES * lines:  # otherwise most lines are empty
        newlines = np.flatnonzero(is_newline)
        decoded = decode_regular(
            body, newlines, unit, find, layouts, on_loop=on_loop
        ) or decode_fields(body, unit, find, on_loop=on_loop)
    if decoded is None:
        is_long = len(body) > _SINGLY_OFF_LOOP_BYTES or lines > _SINGLY_OFF_LOOP_LINES
        check_budget(on_loop=on_loop, is_long=is_long)
        decoded = decode_lines(body, unit, now_ns // unit)
    if unit_ns is None:
        decoded.times = _to_ns(decoded.times)
    if decoded.unit_ns == 1 and not (decoded.times % _NS_PER_US).any():
        # Most senders have coarser clocks; with microseconds no check for folded times is needed.
        decoded.times, decoded.unit_ns = decoded.times // _NS_PER_US, _NS_PER_US
        decoded.written_unit_ns = 1
    return decoded


def _to_ns(times: Int64s) -> Int64s:
    """Convert times of inferred units.

    Source: InfluxDB 3, "Use the v3 write_lp API to write data", auto precision detection.
    """
    seconds, milliseconds, microseconds = (np.abs(times) < bound for bound in _BOUNDS_S)
    unit = np.select([seconds, milliseconds, microseconds], [_NS_PER_S, 1_000_000, 1_000], 1)
    in_ns: Int64s = times * unit
    return in_ns
