"""Buckets: sums of decimal fractions are as exact as decimal arithmetic."""

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.samples import Columns
from infrawatch.store.rollups.buckets import FIVE_MINUTES, Buckets

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
