"""Arbitrary samples, for property tests of encoding and storage."""

from itertools import accumulate

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from infrawatch.model.samples import Columns
from infrawatch.model.timerange import US

SPECIAL_BITS = {
    "negative zero": 0x8000000000000000,
    "the least denormal": 0x0000000000000001,
    "the largest denormal": 0x000FFFFFFFFFFFFF,
    "infinity": 0x7FF0000000000000,
    "minus infinity": 0xFFF0000000000000,
    "the stale marker": 0x7FF0000000000002,
    "the usual NaN": 0x7FF8000000000000,
    "a negative NaN with a payload": 0xFFF8DEADBEEF0001,
    "the largest double": 0x7FEFFFFFFFFFFFFF,
    "2^53 - 1": 0x433FFFFFFFFFFFFF,
    "2^53": 0x4340000000000000,
    "2^53 + 2": 0x4340000000000001,
    "-2^53": 0xC340000000000000,
    "2^63": 0x43E0000000000000,
    "0.1 + 0.2": 0x3FD3333333333334,
    "1e22": 0x4480F0CF064DD592,
    "1e23": 0x44B52D02C7E14AF6,
    "1e-22": 0x3B5E392010175EE6,
}
"""As bits, because a signalling NaN that is handed around as a number may be quietened."""

_GAPS_US = (
    st.just(15 * US),
    st.integers(14_990, 15_010).map(lambda ms: ms * 1000),
    st.sampled_from((1, 1, 1, 1, 1, 2, 3, 240)).map(lambda places: places * 15 * US),
    st.sampled_from((14_998, 15_001, 15_003, 30_001, 44_999)).map(lambda ms: ms * 1000),
    st.integers(1, 3),
    st.sampled_from((1, 7200 * US - 1, 7200 * US)),
    st.integers(1, 10**12),
)
"""Regular, jittered, with missed scrapes, with both, microseconds apart, extremes, anything."""

_LIMITS = (0, 9, 1500, 2**31, 2**52, 2**53 + 2)


@st.composite
def _values(draw: DrawFn) -> list[int]:
    """Bits of decimals, of steps up from one to the next, or of anything; sometimes mixed."""
    if draw(st.integers(0, 3)) == 0:
        bits = st.integers(0, 2**64 - 1) | st.sampled_from(sorted(SPECIAL_BITS.values()))
        return draw(st.lists(bits, min_size=1, max_size=20))
    limit, factor = draw(st.sampled_from(_LIMITS)), draw(st.sampled_from((1, 7, 4096)))
    numbers = draw(st.lists(st.integers(-limit, limit), min_size=1, max_size=50))
    if draw(st.booleans()):
        numbers = list(accumulate(map(abs, numbers)))
    scaled = np.array([number * factor for number in numbers], np.float64)
    values: list[int] = (scaled / 10.0 ** draw(st.integers(0, 23))).view(np.uint64).tolist()
    if draw(st.integers(0, 7)) == 0:
        values.append(draw(st.sampled_from(sorted(SPECIAL_BITS.values()))))
    return values


@st.composite
def arbitrary_columns(draw: DrawFn) -> Columns:
    """Samples of a few series, sorted by (series, time), unique."""
    series_ids: list[int] = []
    times_us: list[int] = []
    bits: list[int] = []
    for series_id in sorted(draw(st.sets(st.integers(0, 2**63 - 1), max_size=4))):
        values = draw(_values())
        gaps = draw(st.sampled_from(_GAPS_US))
        start = draw(st.integers(0, 4 * 10**15))
        series_ids += [series_id] * len(values)
        size = len(values) - 1
        times_us += accumulate(draw(st.lists(gaps, min_size=size, max_size=size)), initial=start)
        bits += values
    values_column = np.array(bits, np.uint64).view(np.float64)
    return Columns(np.array(series_ids, np.int64), np.array(times_us, np.int64), values_column)
