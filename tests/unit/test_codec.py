"""Chunks: what goes in comes out bit for bit, and how little it takes in between."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from arbitrary import SPECIAL_BITS, arbitrary_columns
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from infrawatch.model.samples import Columns, Float64s, Int64s, series_bounds
from infrawatch.model.timerange import US
from infrawatch.store.chunks.codec import MAX_SAMPLES, WINDOW_US, Chunks, decode, encode
from infrawatch.store.columns.packing import bits_for, pack, unpack, words_in
from infrawatch.store.columns.ragged import Runs

START_US = 1_790_006_400 * US
BIGINT = 2**63


def one_series(values: NDArray[np.floating[Any]], times_us: Int64s | None = None) -> Columns:
    if times_us is None:
        times_us = START_US + np.arange(len(values)) * 15 * US
    return Columns(np.full(len(values), 71), times_us, values.astype(np.float64))


def doubles(*bits: int) -> Float64s:
    return np.array(bits, np.uint64).view(np.float64)


def same_bits(some: Columns, others: Columns) -> bool:
    return all(
        np.array_equal(one.view(np.int64), other.view(np.int64))
        for one, other in zip(some, others, strict=True)
    )


def bytes_in_arrays(chunks: Chunks) -> int:
    return chunks.times.times.nbytes + chunks.values.deltas.nbytes + chunks.values.raw.nbytes


@given(arbitrary_columns())
@example(Columns.empty())
def test_every_sample_comes_back_bit_for_bit(columns: Columns) -> None:
    assert same_bits(decode(encode(columns)), columns)


@given(arbitrary_columns())
def test_a_chunk_lies_within_one_window_of_one_series(columns: Columns) -> None:
    chunks = encode(columns)
    last = np.cumsum(chunks.counts) - 1
    first = last - chunks.counts + 1
    assert np.array_equal(chunks.starts_us // WINDOW_US, chunks.ends_us // WINDOW_US)
    assert np.array_equal(chunks.starts_us, columns.times_us[first])
    assert np.array_equal(chunks.ends_us, columns.times_us[last])
    assert np.array_equal(chunks.series_ids, columns.series_ids[first])
    assert np.array_equal(chunks.series_ids, columns.series_ids[last])
    assert chunks.counts.sum() == len(columns)


@given(arbitrary_columns())
@example(one_series(np.tile([2.0**53 - 1, 1 - 2.0**53], MAX_SAMPLES // 2)))
@example(one_series(np.tile([2.0**53 - 1, 1 - 2.0**53, 0.0], MAX_SAMPLES // 3)))
def test_no_step_of_decoding_overflows_what_postgresql_counts_in(columns: Columns) -> None:
    chunks = encode(columns)
    values = chunks.values
    deltas = iter(unpack(values.deltas, chunks.counts, values.delta_bits).tolist())
    for i, count in enumerate(chunks.counts.tolist()):
        base, slope, factor = (
            int(column[i]) for column in (values.base, values.slope, values.factor)
        )
        total = 0
        for place in range(count):
            delta = next(deltas)
            total += delta
            assert delta < 2**31
            assert abs(slope * place) < BIGINT
            assert abs(base + slope * place) < BIGINT
            assert factor * total < BIGINT
            assert abs(base + slope * place + factor * total) < 2**53


@pytest.mark.parametrize("bits", SPECIAL_BITS.values(), ids=SPECIAL_BITS.keys())
def test_a_special_value_survives_among_plain_ones(bits: int) -> None:
    plain = [int(value) for value in np.arange(1.0, 41.0).view(np.uint64)]
    for place in (0, 7, 40):
        columns = one_series(doubles(*plain[:place], bits, *plain[place:]))
        assert same_bits(decode(encode(columns)), columns)


def test_a_window_too_full_for_one_chunk_is_cut_into_equal_ones() -> None:
    times_us = START_US + np.arange(7200) * US
    columns = one_series(np.random.default_rng(4).random(7200), times_us)
    chunks = encode(columns)
    assert chunks.counts.tolist() == [MAX_SAMPLES] * 15
    assert encode(columns.picked(times_us < START_US + 481 * US)).counts.tolist() == [241, 240]
    assert same_bits(decode(chunks), columns)


def test_constant_and_linear_values_take_no_array() -> None:
    constant = one_series(np.full(MAX_SAMPLES, 21.5))
    line = one_series(np.arange(MAX_SAMPLES) * 0.25)
    assert bytes_in_arrays(encode(constant)) == bytes_in_arrays(encode(line)) == 0


def test_multiples_take_no_more_than_what_they_are_multiples_of() -> None:
    pages = np.random.default_rng(1).integers(0, 500, 300).cumsum()
    of_pages, of_bytes = encode(one_series(pages * 1.0)), encode(one_series(pages * 4096.0))
    assert bytes_in_arrays(of_bytes) == bytes_in_arrays(of_pages) < 1.5 * 300


def test_jitter_of_a_few_milliseconds_costs_half_a_byte_a_sample() -> None:
    jitter_us = np.random.default_rng(2).integers(-5, 6, MAX_SAMPLES) * 1000
    times_us = START_US + 7 * US + np.arange(MAX_SAMPLES) * 15 * US + jitter_us
    columns = one_series(np.ones(MAX_SAMPLES), times_us)
    assert bytes_in_arrays(encode(columns)) <= 0.5 * MAX_SAMPLES
    assert same_bits(decode(encode(columns)), columns)


@pytest.mark.parametrize(("jitter_ms", "bytes_per_sample"), [(0, 0.26), (5, 0.81)])
def test_missed_scrapes_cost_a_bit_or_two_a_sample(jitter_ms: int, bytes_per_sample: float) -> None:
    random = np.random.default_rng(3)
    jitter_us = random.integers(-jitter_ms, jitter_ms + 1, MAX_SAMPLES) * 1000
    times_us = START_US + 7 * US + np.arange(MAX_SAMPLES) * 15 * US + jitter_us
    columns = one_series(np.ones(MAX_SAMPLES), times_us)
    columns = columns.picked(~np.isin(np.arange(MAX_SAMPLES), [100, 200, 201]))
    assert bytes_in_arrays(encode(columns)) <= bytes_per_sample * MAX_SAMPLES
    assert same_bits(decode(encode(columns)), columns)


@given(st.lists(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=70), max_size=5))
def test_numbers_come_back_from_the_words_they_were_packed_into(runs: list[list[int]]) -> None:
    numbers = np.array([number for run in runs for number in run], np.int64)
    counts = np.array([len(run) for run in runs], np.int64)
    bits = bits_for(Runs.of(counts).largest(numbers))
    words = pack(numbers, Runs.of(counts), bits)
    assert len(words) == words_in(counts, bits).sum()
    assert np.array_equal(unpack(words, counts, bits), numbers)


@given(
    st.lists(
        st.tuples(st.integers(1, 2**40), st.lists(st.integers(-(2**22), 2**22), min_size=1)),
        max_size=5,
    )
)
@example([(2**62, [0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (3, [2**60 + 1, 2**60])])
def test_runs_are_divided_by_the_greatest_divisors_there_are(
    runs: list[tuple[int, list[int]]],
) -> None:
    numbers = [[factor * number for number in run] for factor, run in runs]
    divided = np.array([number for run in numbers for number in run], np.int64)
    divisors = Runs.of(np.array([len(run) for run in numbers], np.int64)).divide(divided)
    assert divisors.tolist() == [int(np.gcd.reduce(run)) or 1 for run in numbers]
    assert divided.tolist() == [
        number // divisor
        for run, divisor in zip(numbers, divisors.tolist(), strict=True)
        for number in run
    ]


@given(arbitrary_columns())
def test_a_series_is_encoded_the_same_alone_and_among_others(columns: Columns) -> None:
    bounds = series_bounds(columns.series_ids).tolist()
    alone = [encode(columns.picked(slice(start, end))) for start, end in pairwise(bounds)]
    among = encode(columns)
    for one in ("times", "values"):
        for name in getattr(among, one)._fields:
            parts = [getattr(getattr(chunks, one), name) for chunks in alone]
            got = getattr(getattr(among, one), name)
            assert b"".join(part.tobytes() for part in parts) == got.tobytes(), name


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=6), st.booleans())
def test_places_select_the_numbers_of_each_run(
    spans: list[tuple[int, int]], are_even: bool
) -> None:
    counts = [spans[0][1] if are_even else count for _, count in spans]
    ends = [sum(gap for gap, _ in spans[: n + 1]) + sum(counts[: n + 1]) for n in range(len(spans))]
    runs = Runs(np.array(ends, np.int64) - np.array(counts, np.int64), np.array(counts, np.int64))
    expected = [n for end, count in zip(ends, counts, strict=True) for n in range(end - count, end)]
    assert runs.positions().tolist() == expected
    assert np.arange(100)[runs.places()].tolist() == expected
