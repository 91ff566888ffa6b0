"""A group as PostgreSQL is given it, cut into rows as `append_group` cuts them."""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.labels import shard_of
from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.store.columns import copy
from infrawatch.store.journal_rows import ROW_SAMPLES, Group, from_packed

BITS = st.integers(-(2**63), 2**63 - 1)
SAMPLES = st.lists(
    st.tuples(st.integers(0, 2**63 - 1), st.integers(-(2**60), 2**60), BITS), min_size=1
)


RUNS = st.lists(
    st.tuples(
        st.integers(64, 70), st.integers(0, 2**50), st.integers(-5, 2**40), st.integers(1, 700)
    ),
    min_size=1,
    max_size=12,
)
"""Series, the first time, how far times are apart, and how many samples."""


class Row(NamedTuple):
    """What one row of the journal gets, times since 2000, doubles as their bits."""

    shard: int
    first: int
    samples: int
    span: tuple[int, int]
    columns: tuple[list[int], list[int], list[int]]
    odd: list[int] | None
    size_bytes: int


def rows(samples: list[tuple[int, int, int]]) -> Iterator[Row]:
    ids, times, bits = (np.array(column, np.int64) for column in zip(*samples, strict=True))
    group = Group.of(Columns(ids, times + copy.PG_EPOCH_US, bits.view(np.float64)))
    odd_bits = np.array(group.odd_values, np.float64).view(np.int64).tolist()
    facts = zip(
        *(group.shards, group.firsts, group.starts, group.counts, group.word_starts, group.words),
        *(group.earliest, group.latest, group.odds),
        strict=True,
    )
    for shard, first, start, count, word, words, earliest, latest, odd in facts:
        told, part = slice(word, word + words), slice(start, start + count)
        cut = group.series_ids[told], group.times[told], group.values[part]
        ids, times_us, values = from_packed([column.tobytes() for column in cut])
        yield Row(
            shard,
            first,
            count,
            (earliest, latest),
            (
                ids.tolist(),
                (times_us - copy.PG_EPOCH_US).tolist(),
                values.view(np.int64).tolist(),
            ),
            None if odd is None else odd_bits[odd - 1 : odd - 1 + count],
            sum(column.nbytes for column in cut),
        )


@given(SAMPLES)
def test_a_group_is_one_row_a_shard_in_order_of_arrival(
    samples: list[tuple[int, int, int]],
) -> None:
    expected: dict[int, list[tuple[int, int, int]]] = {}
    for sample in samples:
        expected.setdefault(shard_of(sample[0]), []).append(sample)

    found = list(rows(samples))

    assert [row.shard for row in found] == sorted(expected)
    for row in found:
        _, times, _ = row.columns
        assert (row.first, row.samples) == (0, len(times))
        assert list(zip(*row.columns, strict=True)) == expected[row.shard], (
            "bits and order are preserved"
        )
        assert row.span == (min(times), max(times))


def test_the_bits_of_every_nan_survive() -> None:
    patterns = [STALE_NAN_BITS, 0x7FF8000000000001, 0x7FF0000000000001, -(2**63)]

    usual, odd, also_odd = rows([(64, 0, 1), *((65, 0, bits) for bits in patterns), (66, 0, 3)])

    assert odd.columns[2] == patterns
    assert odd.odd == patterns
    assert (usual.odd, also_odd.odd) == ([1], [3]), "subnormal numbers"


def test_rows_without_odd_doubles_have_them_as_bits_alone() -> None:
    one, infinite = (int(np.float64(value).view(np.int64)) for value in (1.0, np.inf))

    found = rows([(64, 0, one), (65, 0, infinite), (66, 0, one), (67, 0, infinite), (67, 1, one)])

    assert [row.odd for row in found] == [None, [infinite], None, [infinite, one]]


def test_a_group_larger_than_a_page_is_cut_into_rows_with_positions() -> None:
    samples = [(64 + shard, n, n) for n in range(2 * ROW_SAMPLES + 7) for shard in (0, 5)]

    found = list(rows(samples))

    places = [(row.shard, row.first, row.samples) for row in found]
    whole = [0, ROW_SAMPLES, 2 * ROW_SAMPLES], [ROW_SAMPLES, ROW_SAMPLES, 7]
    assert places == [(shard, *row) for shard in (0, 5) for row in zip(*whole, strict=True)]
    assert [time for row in found[:3] for time in row.columns[1]] == list(
        range(2 * ROW_SAMPLES + 7)
    )


@given(RUNS)
def test_evenly_spaced_samples_are_stored_as_runs_and_restored_in_order(
    runs: list[tuple[int, int, int, int]],
) -> None:
    samples = [
        (series_id, start + n * step, n)
        for series_id, start, step, count in runs
        for n in range(count)
    ]

    found = list(rows(samples))

    for shard in {row.shard for row in found}:
        own = [row for row in found if row.shard == shard]
        told = [sample for row in own for sample in zip(*row.columns, strict=True)]
        assert told == [sample for sample in samples if shard_of(sample[0]) == shard]
        assert [row.first for row in own] == [0, *accumulate(row.samples for row in own)][:-1]
    for row in found:
        assert row.span == (min(row.columns[1]), max(row.columns[1]))
        assert row.size_bytes <= 24 * min(row.samples, ROW_SAMPLES), "fits a page"


def test_a_series_with_a_sample_missing_takes_little_more_than_its_values() -> None:
    times = [n * 15_000_000 for n in range(600) if n != 77]

    [row] = rows([(64, time, n) for n, time in enumerate(times)])

    assert row.columns[1] == times
    assert row.size_bytes <= 8 * len(times) + 3 * 32


@given(st.lists(BITS))
def test_array_elements_are_read_as_they_were_written(bits: list[int]) -> None:
    sent = copy.to_elements(np.array(bits, np.int64)).tobytes()

    assert copy.from_joined_elements(sent).tolist() == bits
