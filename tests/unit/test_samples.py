"""Samples as columns: the latest arrival of each is the one there is."""

import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import (
    STALE_NAN_BITS,
    Columns,
    is_among,
    is_stale,
    latest_arrivals,
    latest_by_shard,
    series_bounds,
)

SAMPLES = st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 3), st.floats()), max_size=60)
Told = list[tuple[int, int, float]]
Runs = list[tuple[int, int, int]]

IDS = st.integers(1, 4) | st.integers(0, 10_000) | st.integers(0, 2**63 - 1)


def runs_of(counts: st.SearchStrategy[int]) -> st.SearchStrategy[Runs]:
    run = st.tuples(st.sampled_from(range(8)), counts, st.integers(-20, 20))
    return st.lists(run, max_size=30)


RUNS = runs_of(st.integers(1, 12)) | st.integers(4, 12).map(st.just).flatmap(runs_of)
"""Which of some series comes next, how many samples it sends in a row, and when the first was."""


def columns(samples: Told) -> Columns:
    ids, times, values = zip(*samples, strict=True) if samples else ((), (), ())
    return Columns(np.array(ids, np.int64), np.array(times, np.int64), np.array(values, np.float64))


def told(samples: Columns) -> Told:
    return list(zip(*(column.tolist() for column in samples), strict=True))


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(SAMPLES)
def test_the_last_arrival_of_a_series_and_time_stays(samples: Told) -> None:
    latest = {(series, time): bits(value) for series, time, value in samples}

    kept = latest_arrivals(columns(samples))

    assert [
        ((series, time), bits(value))
        for series, time, value in zip(*(column.tolist() for column in kept), strict=True)
    ] == sorted(latest.items())


@given(st.lists(IDS, min_size=8, max_size=8), RUNS)
def test_samples_are_sorted_by_shard_however_they_arrive(ids: list[int], runs: Runs) -> None:
    samples = [
        (ids[which], start + n, 100.0 * place + n)
        for place, (which, count, start) in enumerate(runs)
        for n in range(count)
    ]
    latest = {(series % SHARDS, series, time): value for series, time, value in samples}
    plain = {(series, time): value for series, time, value in samples}

    by_shard, by_id = latest_by_shard(columns(samples)), latest_arrivals(columns(samples))

    assert told(by_shard) == [(*key[1:], value) for key, value in sorted(latest.items())]
    assert told(by_id) == [(*key, value) for key, value in sorted(plain.items())]


@given(SAMPLES)
def test_sorted_unique_samples_stay_unchanged(samples: Told) -> None:
    once = latest_arrivals(columns(samples))

    for before, after in zip(once, latest_arrivals(once), strict=True):
        assert before.tobytes() == after.tobytes()


@given(st.lists(SAMPLES, max_size=5))
def test_parts_are_joined_in_their_order(parts: list[Told]) -> None:
    joined = Columns.joined([columns(part) for part in parts])

    expected = columns([sample for part in parts for sample in part])
    for got, wanted in zip(joined, expected, strict=True):
        assert got.tobytes() == wanted.tobytes()
        assert got.dtype == wanted.dtype


@given(st.lists(st.integers(1, 5), max_size=40).map(sorted))
def test_bounds_say_where_each_series_lies(ids: list[int]) -> None:
    bounds = series_bounds(np.array(ids, np.int64)).tolist()

    assert bounds[-1] == len(ids)
    parts = [ids[start:end] for start, end in pairwise(bounds)]
    assert [part[0] for part in parts] == sorted(set(ids))
    assert all(part and len(set(part)) == 1 for part in parts)


def test_one_column_is_replaced_however_many_samples_there_are() -> None:
    before = columns([(1, 10, 0.5), (1, 20, 1.5)])

    after = replace(before, values=before.values * 2)

    assert len(after) == 2
    assert [column.tolist() for column in after] == [[1, 1], [10, 20], [1.0, 3.0]]


def test_only_prometheus_own_nan_is_a_stale_marker() -> None:
    patterns = [STALE_NAN_BITS, 0x7FF8000000000000, 0x7FF8000000000001, 0x7FF0000000000001, 0]
    values = np.array(patterns, np.int64).view(np.float64)

    assert is_stale(values).tolist() == [True, False, False, False, False]


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 50), max_size=60),
    st.sets(st.integers(0, 50), max_size=40),
)
def test_requested_ids_are_found_among_others(ids: list[int], wanted: set[int]) -> None:
    found = is_among(np.array(ids, np.int64), np.array(sorted(wanted), np.int64))

    assert found.tolist() == [series_id in wanted for series_id in ids]
