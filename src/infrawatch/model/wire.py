"""Times and values as JSON can represent them, in responses and in live frames."""

import numpy as np

from infrawatch.model.samples import Float64s, Int64s, is_stale

US_PER = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
NS_PER_US = 1_000

WireValue = float | str | None


def to_wire_times(times_us: Int64s, precision: str = "ms") -> list[int]:
    """Convert times to integers in a precision; coarser precisions round down."""
    if precision == "ns":
        return [time * NS_PER_US for time in times_us.tolist()]
    times: list[int] = (times_us // US_PER[precision]).tolist()
    return times


def to_wire_values(values: Float64s) -> list[WireValue]:
    """Convert values to JSON: "NaN", "+Inf", "-Inf" become text, a stale marker becomes null."""
    wire: list[WireValue] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        wire[place] = _to_text(values[place : place + 1])
    return wire


def _to_text(value: Float64s) -> str | None:
    if is_stale(value)[0]:
        return None
    return "NaN" if np.isnan(value[0]) else "+Inf" if value[0] > 0 else "-Inf"
