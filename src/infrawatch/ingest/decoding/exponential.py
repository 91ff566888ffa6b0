"""Bounds of exponential histograms: at most four per doubling, identical on every machine."""

import math

FINEST_SCALE = 2
"""Four buckets per doubling, each 19 % wide: fine enough for quantiles, and few enough to store.

Finer buckets merge without error: every second, fourth, … of their bounds is one of these.
"""

_ROOTS = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)
"""2 to the 0/4, 1/4, 2/4, 3/4, written out because libraries differ in the last bit."""


def power(quarters: int) -> float:
    """2 to the power of `quarters` / 4; 0 or infinity beyond the range of doubles."""
    try:
        return math.ldexp(_ROOTS[quarters % 4], quarters // 4)
    except OverflowError:
        return math.inf
