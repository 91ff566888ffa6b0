"""Buckets: sums of decimal fractions are exact, whichever way they are found."""

from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
from arbitrary import arbitrary_columns
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from infrawatch.model.samples import Columns
from infrawatch.model.timerange import US
from infrawatch.store.chunks.codec import encode
from infrawatch.store.chunks.rows import to_copy
from infrawatch.store.rollups.buckets import FIVE_MINUTES, Buckets
from infrawatch.upkeep.closing import ClosedWindows
from infrawatch.upkeep.cut_samples import CutSamples

DECIMALS = st.decimals(-(10**6), 10**6, places=0) | st.decimals(-(10**6), 10**6, places=6)
SERIES = st.lists(st.lists(DECIMALS | st.just(Decimal("0.1")), min_size=1), max_size=6)


@given(SERIES, st.sampled_from([0, 250_000_000]))
def test_decimal_fractions_are_added_up_without_rounding_errors(
    series: list[list[Decimal]], start_us: int
) -> None:
    ids = [number for number, values in enumerate(series) for _ in values]
    times = [start_us + 1000 * n for values in series for n in range(len(values))]
    values = [float(value) for values in series for value in values]
    columns = Columns(np.array(ids, np.int64), np.array(times, np.int64), np.array(values))

    buckets = Buckets.of(columns, FIVE_MINUTES.bucket_us)

    assert buckets.series_ids.tolist() == list(range(len(series)))
    assert buckets.sums.tolist() == [float(sum(values)) for values in series]


def every_second(values: NDArray[np.floating[Any]]) -> Columns:
    return Columns(np.full(len(values), 7), np.arange(len(values)) * US, values.astype(np.float64))


@given(arbitrary_columns())
@example(Columns.empty())
@example(every_second(np.arange(7200) / np.repeat(8 * [10, 1000], 480)[:7200]))  # by chunk
@example(every_second(2.0**52 + np.arange(600) ** 2))
@example(every_second(np.append(np.arange(599) * 1e9, -0.0)))
@example(every_second(np.append(np.arange(599) / 1000, 2.0**50)))
@example(every_second(np.repeat([2.0**40 + 0.25, 2.0**52, 0.0001, 1e-9], 300)))
def test_buckets_from_integers_are_those_from_values_bit_for_bit(columns: Columns) -> None:
    closed = ClosedWindows.of([CutSamples.of(columns)])

    plain = Buckets.of(columns, FIVE_MINUTES.bucket_us)
    assert [one.tobytes() for one in closed.buckets] == [one.tobytes() for one in plain]


@given(arbitrary_columns())
@example(every_second(np.arange(7200) / 10))
def test_windows_found_from_buckets_become_the_same_chunks(columns: Columns) -> None:
    [chunks] = ClosedWindows.of([CutSamples.of(columns)]).chunks

    assert to_copy(chunks) == to_copy(encode(columns))


@given(arbitrary_columns(), st.randoms(use_true_random=False))
def test_some_windows_are_cut_as_if_alone(columns: Columns, random: Random) -> None:
    whole = CutSamples.of(columns)
    which = np.array([random.random() < 0.5 for _ in whole.sizes], np.bool_)
    picked = whole.picked(which)

    alone = CutSamples.of(columns.picked(whole.windows.spread(which)))
    assert [one.tobytes() for one in picked.samples] == [one.tobytes() for one in alone.samples]
    assert np.array_equal(picked.buckets, alone.buckets)
    assert np.array_equal(picked.windows, alone.windows)
    assert np.array_equal(picked.sizes, alone.sizes)
