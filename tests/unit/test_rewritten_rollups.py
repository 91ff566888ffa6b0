"""Rewriting rollups: the same as bucket by bucket, in any order; windows asked for as ranges."""

import random
from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.labels import SHARDS
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.chunks.merging import Windows
from infrawatch.store.rollups.buckets import FIVE_MINUTES, RESOLUTIONS, Buckets
from infrawatch.store.selection.requested_ids import BLOCK_BITS
from infrawatch.upkeep import rollups

Key = tuple[int, int]
"""A series and a time."""

_IDS = st.sampled_from([64, 65, 128, 129, 192, 512 << 6, 511 << 6])
_WINDOWS = st.integers(0, 3)
_FIVES = st.integers(0, 4 * WINDOW_US // FIVE_MINUTES.bucket_us - 1)


def buckets(found: Iterable[Key], value: float) -> Buckets:
    ids, fives = np.array([*found], np.int64).reshape(-1, 2).T
    values = np.full(len(ids), value)
    return Buckets(ids, fives * FIVE_MINUTES.bucket_us, *([values] * 5))


def keys_and_values(found: Buckets) -> dict[Key, float]:
    times = (found.times_us // FIVE_MINUTES.bucket_us).tolist()
    return dict(zip(zip(found.series_ids.tolist(), times, strict=True), found.sums, strict=True))


def window_of(key: Key) -> Key:
    return key[0], key[1] * FIVE_MINUTES.bucket_us // WINDOW_US


def windows(found: Iterable[Key]) -> Windows:
    ids, numbers = np.array([*found], np.int64).reshape(-1, 2).T
    return Windows(ids, numbers * WINDOW_US)


@given(st.sets(st.tuples(_IDS, _FIVES)), st.sets(st.tuples(_IDS, _FIVES)), st.data())
def test_a_window_has_its_new_buckets_unless_its_old_ones_have_outlived_its_samples(
    old: set[Key], new: set[Key], data: st.DataObject
) -> None:
    written = {window_of(key) for key in new}
    had = data.draw(st.sets(st.sampled_from(sorted(written))) if written else st.just(set()))
    is_old_kept = {window_of(key) for key in old} - had
    expected = {key: 1.0 for key in old if window_of(key) in is_old_kept}
    expected |= {key: 2.0 for key in new if window_of(key) not in is_old_kept}
    before, finest = buckets(data.draw(st.permutations([*old])), 1.0), buckets(sorted(new), 2.0)
    found = rollups._rewritten(before, finest, windows(had), FIVE_MINUTES)
    assert keys_and_values(found) == expected
    assert len(found.series_ids) == len(expected)
    assert RESOLUTIONS[-1] == FIVE_MINUTES


@given(st.lists(st.lists(st.tuples(_IDS, _FIVES), unique=True), max_size=4))
def test_buckets_in_any_order_are_sorted_by_series_and_time(parts: list[list[Key]]) -> None:
    found = Buckets.sorted([buckets(part, 0.0) for part in parts])
    expected = sorted(key for part in parts for key in part)
    assert list(zip(*found[:2], strict=True)) == [
        (series_id, five * FIVE_MINUTES.bucket_us) for series_id, five in expected
    ]


@given(st.sets(st.tuples(_IDS, _FIVES)), st.randoms())
def test_windows_of_a_series_from_several_parts_come_together(
    keys: set[Key], chance: random.Random
) -> None:
    by_window: dict[Key, list[Key]] = {}
    for key in sorted(keys):
        by_window.setdefault(window_of(key), []).append(key)
    parts = [*by_window.values()]
    chance.shuffle(parts)
    parts.sort(key=lambda part: part[0][1])  # the windows of a series come in order of time
    found = buckets([key for part in parts for key in part], 0.0).by_series()
    in_order = list(keys_and_values(found))
    series = [series_id for series_id, _ in in_order]
    assert sorted(in_order) == sorted(keys)
    assert in_order == sorted(in_order, key=lambda key: (series.index(key[0]), key[1]))


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2), _WINDOWS)))
def test_the_ranges_requested_are_the_windows(numbered: list[tuple[int, int, int]]) -> None:
    near_the_end = (1 << BLOCK_BITS) // SHARDS - 20  # some numbers are in the next block
    expected = {
        ((near_the_end + number) * SHARDS + shard, window * WINDOW_US)
        for number, shard, window in numbered
    }
    if not expected:
        return
    ids, times_us = np.array([*expected] * 2, np.int64).T
    parameters = Windows.of(ids, times_us + 1, WINDOW_US).to_parameters()
    columns = [from_text(parameters[name]) for name in ("first_ids", "last_ids", "starts")]
    ranges = list(zip(*columns, strict=True))
    assert all(first >> BLOCK_BITS == last >> BLOCK_BITS for first, last, _ in ranges)
    requested = [
        (series_id, start)
        for first, last, start in ranges
        for series_id in range(first, last + 1, SHARDS)
    ]
    assert sorted(requested) == sorted(expected)


def from_text(array: object) -> list[int]:
    return [int(number) for number in str(array).strip("{}").split(",")]
