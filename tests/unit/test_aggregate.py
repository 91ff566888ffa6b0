"""Every function of the samples in a step, against plain Python."""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from statistics import pstdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.model.timerange import TimeRange
from infrawatch.query import aggregate as aggregate_module
from infrawatch.query.aggregate import aggregate, lookback_us, series_in
from infrawatch.query.functions import RUN_FUNCTIONS, Function
from infrawatch.query.steps import Steps, Table

Series = Mapping[int, Mapping[int, float]]
"""Series id → time → value."""

STALE_BYTES = struct.pack("<Q", STALE_NAN_BITS)
STALE: float = struct.unpack("<d", STALE_BYTES)[0]
INT64 = np.iinfo(np.int64)
SPAN = TimeRange(0, 100)

values = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-1e9, 1e9),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, STALE]),
)
few_series = st.dictionaries(
    st.integers(-5, 5), st.dictionaries(st.integers(-30, 130), values, max_size=25), max_size=4
)


def columns_of(series: Series) -> Columns:
    """Return sorted columns, read-only because inputs must not be changed."""
    samples = [
        (series_id, time, value)
        for series_id, of_series in sorted(series.items())
        for time, value in sorted(of_series.items())
    ]
    ids, times, numbers = zip(*samples, strict=True) if samples else ((), (), ())
    columns = Columns(np.array(ids, np.int64), np.array(times, np.int64), np.array(numbers, float))
    for column in columns:
        column.flags.writeable = False
    return columns


def answered(function: Function, samples: Sequence[float], *, step_us: int = 100) -> Table:
    """What one series says that has these samples at 0, 1, 2 …"""
    return aggregate(columns_of({1: dict(enumerate(samples))}), Steps(SPAN, step_us), function)


def value_of(function: Function, samples: Sequence[float]) -> float:
    """The same, with all samples in one step."""
    [[value]] = answered(function, samples).values.tolist()
    assert isinstance(value, float)
    return value


def plain_quantile(fraction: float) -> Callable[[list[float]], float]:
    def quantile(samples: list[float]) -> float:
        rank = fraction * (len(samples) - 1)
        below, above = sorted(samples)[math.floor(rank)], sorted(samples)[math.ceil(rank)]
        return below if below == above else below * (1 - rank % 1) + above * (rank % 1)

    return quantile


PLAIN: dict[Function, Callable[[list[float]], float]] = {
    Function.AVG: lambda samples: sum(samples) / len(samples),
    Function.MIN: min,
    Function.MAX: max,
    Function.SUM: sum,
    Function.COUNT: len,
    Function.FIRST: lambda samples: samples[0],
    Function.LAST: lambda samples: samples[-1],
    Function.P50: plain_quantile(0.5),
    Function.P90: plain_quantile(0.9),
    Function.P95: plain_quantile(0.95),
    Function.P99: plain_quantile(0.99),
    Function.STDDEV: lambda samples: (
        pstdev(samples) if all(map(math.isfinite, samples)) else math.nan
    ),
}
BLIND_TO_NAN = (Function.COUNT, Function.FIRST, Function.LAST)


def plain(function: Function, samples: list[float]) -> float:
    if function not in BLIND_TO_NAN and any(map(math.isnan, samples)):
        return math.nan
    return PLAIN[function](samples)


def in_step(of_series: Mapping[int, float], begin: int, end: int) -> list[float]:
    return [
        value
        for time, value in sorted(of_series.items())
        if begin <= time < end and struct.pack("<d", value) != STALE_BYTES
    ]


@pytest.mark.parametrize("function", RUN_FUNCTIONS)
@given(series=few_series, step=st.integers(1, 150))
def test_every_function_answers_as_plain_python_does(
    function: Function, series: Series, step: int
) -> None:
    steps = Steps(SPAN, step)
    columns = columns_of(series)
    table = aggregate(columns, steps, function)

    present = sorted(series_id for series_id, of_series in series.items() if of_series)
    assert series_in(columns).tolist() == present
    assert table.values.shape == table.empty.shape == (len(present), steps.count)
    for row, series_id in enumerate(present):
        in_steps = [
            in_step(series[series_id], begin, min(begin + step, 100))
            for begin in range(0, 100, step)
        ]
        expected = [plain(function, samples) if samples else math.nan for samples in in_steps]
        assert table.empty[row].tolist() == [not samples for samples in in_steps]
        np.testing.assert_allclose(table.values[row], expected, rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("function", Function)
def test_it_does_not_matter_where_the_work_is_cut_into_blocks(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    series = {
        series_id: {int(time): float(random.normal()) for time in random.integers(-20, 100, size)}
        for series_id, size in enumerate(random.integers(1, 40, 50))
    }
    is_delta = np.arange(50) % 3 == 0
    whole = aggregate(columns_of(series), Steps(SPAN, 9), function, is_delta=is_delta)
    monkeypatch.setattr(aggregate_module, "_BLOCK_SAMPLES", 30)
    in_blocks = aggregate(columns_of(series), Steps(SPAN, 9), function, is_delta=is_delta)

    assert whole.values.tobytes() == in_blocks.values.tobytes()
    assert whole.empty.tobytes() == in_blocks.empty.tobytes()


def test_a_step_has_the_sample_at_its_beginning_but_not_the_one_at_its_end() -> None:
    columns = columns_of({1: {-1: 1.0, 0: 2.0, 39: 3.0, 40: 4.0, 80: 5.0, 99: 6.0, 100: 7.0}})
    table = aggregate(columns, Steps(SPAN, 40), Function.SUM)

    assert table.values.tolist() == [[5.0, 4.0, 11.0]]


def test_steps_are_labelled_with_their_beginnings_and_the_last_ends_with_the_span() -> None:
    steps = Steps(TimeRange(7, 100), 40)

    assert steps.begins_us.tolist() == [7, 47, 87]
    assert steps.ends_us.tolist() == [47, 87, 100]


def test_one_step_longer_than_the_span_covers_all_of_it() -> None:
    steps = Steps(SPAN, 10**30)
    table = aggregate(columns_of({1: {0: 1.0, 99: 2.0}}), steps, Function.COUNT)

    assert steps.ends_us.tolist() == [100]
    assert table.values.tolist() == [[2.0]]


@pytest.mark.parametrize("function", Function)
def test_an_empty_span_has_no_steps(function: Function) -> None:
    steps = Steps(TimeRange(50, 50), 10)
    is_delta = np.array([True, False])
    columns = columns_of({1: {49: 1.0, 50: 2.0}, 2: {50: 1.0}})
    table = aggregate(columns, steps, function, is_delta=is_delta)

    assert steps.ends_us.tolist() == []
    assert table.values.shape == table.empty.shape == (2, 0)


@pytest.mark.parametrize("function", Function)
def test_without_samples_there_are_no_rows(function: Function) -> None:
    table = aggregate(Columns.empty(), Steps(SPAN, 10), function)

    assert table.values.shape == table.empty.shape == (0, 10)


def test_times_at_both_ends_of_int64_find_their_steps() -> None:
    steps = Steps(TimeRange(INT64.min, INT64.max), 2**62)
    times = np.array([INT64.min, -(2**62) - 1, -(2**62), -1, 0, INT64.max - 1, INT64.max])

    assert steps.begins_us.tolist() == [INT64.min, -(2**62), 0, 2**62]
    assert steps.indexes_of(times).tolist() == [0, 0, 1, 1, 2, 3, -1]


def test_a_huge_grid_may_be_almost_empty() -> None:
    steps = Steps(TimeRange(0, 10**9), 1_000)
    table = aggregate(columns_of({1: {777_777_000: 1.5}}), steps, Function.P99)

    assert table.values[0, 777_777] == 1.5
    assert (~table.empty).sum() == 1


@pytest.mark.parametrize("function", Function)
def test_a_series_of_stale_markers_alone_is_a_row_without_answers(function: Function) -> None:
    columns = columns_of({1: {10: STALE, 60: STALE}, 2: {10: 1.0, 11: 2.0}})
    table = aggregate(columns, Steps(SPAN, 50), function)

    assert columns.values[:2].view(np.int64).tolist() == [STALE_NAN_BITS] * 2
    assert table.empty.tolist() == [[True, True], [False, True]]


def test_a_nan_is_an_answer_and_no_empty_step() -> None:
    table = answered(Function.AVG, [1.0, math.nan], step_us=50)

    assert math.isnan(table.values[0, 0])
    assert table.empty.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("function", "samples", "expected"),
    [
        (Function.SUM, [math.inf, -math.inf], math.nan),
        (Function.SUM, [1.7e308, 1.7e308], math.inf),
        (Function.AVG, [math.inf, 1.0], math.inf),
        (Function.MIN, [-math.inf, 1.0], -math.inf),
        (Function.STDDEV, [math.inf], math.nan),
        (Function.P50, [1.0, 2.0, math.inf], 2.0),
        (Function.P50, [1.0, math.inf, math.inf], math.inf),
        (Function.P50, [1.0, math.inf], math.inf),
        (Function.P50, [-math.inf, math.inf], math.nan),
        (Function.P50, [-1.7e308, 1.7e308], 0.0),
    ],
)
def test_infinities_and_overflow_follow_ieee_754(
    function: Function, samples: list[float], expected: float
) -> None:
    assert value_of(function, samples) == pytest.approx(expected, nan_ok=True)


def test_a_flat_series_deviates_by_exactly_nothing() -> None:
    assert value_of(Function.STDDEV, [0.1] * 99) == 0.0


def test_a_small_deviation_from_a_large_mean_is_exact() -> None:
    samples = [1e9 + small for small in (4.0, 7.0, 13.0, 16.0)]

    assert value_of(Function.STDDEV, samples) == pytest.approx(math.sqrt(22.5), rel=1e-12)


def test_the_sum_of_a_million_samples_loses_nothing_to_rounding() -> None:
    count = 1_000_000
    columns = Columns(np.ones(count, np.int64), np.arange(count), np.full(count, 0.1))
    table = aggregate(columns, Steps(TimeRange(0, count), count), Function.SUM)

    # One after the other, they would add up to 1.3e-6 too much.
    assert table.values[0, 0] == pytest.approx(100_000.0, rel=0, abs=1e-9)


@pytest.mark.parametrize("function", Function)
def test_only_counters_need_samples_from_before_the_span(function: Function) -> None:
    of_counters = function in (Function.RATE, Function.INCREASE)

    assert lookback_us(function, 60_000_000) == (300_000_000 if of_counters else 0)
    assert lookback_us(function, 900_000_000) == (900_000_000 if of_counters else 0)
