"""What counters gained: `increase` and `rate`, against plain Python."""

import math
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.model.timerange import US, TimeRange
from infrawatch.query.aggregate import aggregate
from infrawatch.query.functions import Function
from infrawatch.query.steps import Steps, Table

Series = Mapping[int, Mapping[int, float]]
"""Series id → time in seconds → value."""

STALE_BYTES = struct.pack("<Q", STALE_NAN_BITS)
STALE: float = struct.unpack("<d", STALE_BYTES)[0]
INT64 = np.iinfo(np.int64)
COUNTERS = (Function.INCREASE, Function.RATE)

values = st.one_of(
    st.integers(0, 9).map(float),
    st.floats(-1e6, 1e6),
    st.sampled_from([math.nan, math.inf, -math.inf, STALE]),
)
times = st.integers(-30, 130)
few_series = st.dictionaries(
    st.integers(0, 5), st.dictionaries(times, values, min_size=1, max_size=25), max_size=5
)


def columns_of(series: Series) -> Columns:
    samples = [
        (series_id, time * US, value)
        for series_id, of_series in sorted(series.items())
        for time, value in sorted(of_series.items())
    ]
    ids, times_us, numbers = zip(*samples, strict=True) if samples else ((), (), ())
    return Columns(
        np.array(ids, np.int64), np.array(times_us, np.int64), np.array(numbers, np.float64)
    )


def answered(
    function: Function, series: Series, *, step: int, delta: frozenset[int] = frozenset()
) -> Table:
    """The answer for the first 100 seconds."""
    steps = Steps(TimeRange(0, 100 * US), step * US)
    is_delta = np.array([series_id in delta for series_id in sorted(series)], np.bool_)
    return aggregate(columns_of(series), steps, function, is_delta=is_delta)


class PlainGain(NamedTuple):
    since: int
    until: int
    amount: float


def plain_gains(of_series: Mapping[int, float]) -> Iterator[PlainGain]:
    before: tuple[int, float] | None = None
    for time, value in sorted(of_series.items()):
        if struct.pack("<d", value) == STALE_BYTES:
            continue
        if before is not None:
            fell = value < before[1]
            yield PlainGain(before[0], time, value if fell else value - before[1])
        before = (time, value)


def plain(function: Function, of_series: Mapping[int, float], begin: int, end: int) -> float | None:
    gains = [gain for gain in plain_gains(of_series) if begin <= gain.until < end]
    if not gains:
        return None
    increase = sum(gain.amount for gain in gains)
    covered = gains[-1].until - gains[0].since
    return increase if function is Function.INCREASE else increase / covered


def plain_delta(
    function: Function, of_series: Mapping[int, float], begin: int, end: int
) -> float | None:
    amounts = [
        value
        for time, value in of_series.items()
        if begin <= time < end and struct.pack("<d", value) != STALE_BYTES
    ]
    if not amounts:
        return None
    return sum(amounts) if function is Function.INCREASE else sum(amounts) / (end - begin)


@pytest.mark.parametrize("function", COUNTERS)
@given(series=few_series, delta=st.frozensets(st.integers(0, 5)), step=st.integers(1, 150))
def test_counters_answer_as_plain_python_does(
    function: Function, series: Series, delta: frozenset[int], step: int
) -> None:
    table = answered(function, series, step=step, delta=delta)

    for row, (series_id, of_series) in enumerate(sorted(series.items())):
        reference = plain_delta if series_id in delta else plain
        expected = [
            reference(function, of_series, begin, min(begin + step, 100))
            for begin in range(0, 100, step)
        ]
        assert table.empty[row].tolist() == [answer is None for answer in expected]
        np.testing.assert_allclose(
            table.values[row],
            [math.nan if answer is None else answer for answer in expected],
            rtol=1e-9,
            atol=1e-6,
        )


@given(
    of_series=st.dictionaries(times, st.integers(0, 2**40).map(float), min_size=1),
    step=st.integers(1, 99),
)
def test_the_increases_of_all_steps_add_up_to_the_increase_of_the_whole(
    of_series: Mapping[int, float], step: int
) -> None:
    steps = answered(Function.INCREASE, {1: of_series}, step=step)
    whole = answered(Function.INCREASE, {1: of_series}, step=100)

    assert np.nansum(steps.values) == np.nansum(whole.values)
    assert steps.empty.all() == whole.empty.all()


def test_an_increase_begins_at_the_sample_before_the_step() -> None:
    counter = {-10: 100.0, 10: 103.0, 40: 110.0, 60: 111.0}
    table = answered(Function.INCREASE, {1: counter}, step=50)

    assert table.values.tolist() == [[10.0, 1.0]]


def test_a_rate_is_per_second_of_the_time_from_the_sample_before_to_the_last_in_the_step() -> None:
    counter = {-10: 100.0, 10: 103.0, 40: 110.0, 60: 111.0}
    table = answered(Function.RATE, {1: counter}, step=50)

    assert table.values.tolist() == [[10.0 / 50, 1.0 / 20]]


def test_a_counter_that_restarted_has_gained_its_new_value() -> None:
    table = answered(Function.INCREASE, {1: {0: 90.0, 10: 95.0, 20: 3.0, 30: 4.0}}, step=100)

    assert table.values.tolist() == [[9.0]]


@pytest.mark.parametrize("function", COUNTERS)
def test_a_single_first_sample_has_no_known_gain(function: Function) -> None:
    table = answered(function, {1: {10: 90.0, 60: 95.0}, 2: {60: 5.0}}, step=50)

    assert table.empty.tolist() == [[True, False], [True, True]]


def test_a_counter_does_not_continue_from_the_previous_series() -> None:
    table = answered(Function.INCREASE, {1: {10: 5.0, 20: 6.0}, 2: {15: 50.0, 25: 70.0}}, step=100)

    assert table.values.tolist() == [[1.0], [20.0]]


def test_a_stale_marker_does_not_end_a_counter() -> None:
    table = answered(Function.INCREASE, {1: {10: 5.0, 20: STALE, 60: 8.0}}, step=50)

    assert table.empty.tolist() == [[True, False]]
    assert table.values[0, 1] == 3.0


def test_a_nan_spoils_the_differences_on_both_sides_and_no_others() -> None:
    counter = {5: 1.0, 15: 2.0, 25: math.nan, 35: 4.0, 45: 6.0}
    table = answered(Function.INCREASE, {1: counter}, step=10)

    assert table.empty.tolist() == [[True, *[False] * 4, *[True] * 5]]
    np.testing.assert_array_equal(table.values[0, 1:5], [1.0, math.nan, math.nan, 2.0])


def test_a_delta_series_reports_what_it_gained() -> None:
    deltas = {-1: 7.0, 0: 3.0, 50: 2.0, 59: 0.0, 90: 1.0}
    increase = answered(Function.INCREASE, {1: deltas}, step=60, delta=frozenset({1}))
    rate = answered(Function.RATE, {1: deltas}, step=60, delta=frozenset({1}))

    assert increase.values.tolist() == [[5.0, 1.0]]
    assert rate.values.tolist() == [[5.0 / 60, 1.0 / 40]]


def test_rates_are_right_over_all_of_int64() -> None:
    columns = Columns(
        np.array([1, 1]), np.array([INT64.min, INT64.max - 1]), np.array([0.0, 2.0**64 - 2])
    )
    steps = Steps(TimeRange(INT64.min, INT64.max), 2**70)
    table = aggregate(columns, steps, Function.RATE)

    assert table.values[0, 0] == pytest.approx(US, rel=1e-12)


def test_a_table_of_flags_for_other_series_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        aggregate(
            columns_of({1: {0: 1.0}}),
            Steps(TimeRange(0, US), US),
            Function.RATE,
            is_delta=np.zeros(2, np.bool_),
        )
