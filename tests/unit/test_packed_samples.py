"""What is stored comes out in blocks of whole series; of each sample the latest arrival."""

from itertools import pairwise

import numpy as np
import pytest

from infrawatch.errors import QueryTooBroad
from infrawatch.model.samples import Columns, latest_arrivals
from infrawatch.model.timerange import US, TimeRange
from infrawatch.store.chunks.codec import BLOCK_SAMPLES, Chunks, encode
from infrawatch.store.packed_samples import PackedSamples

START_US = 1_790_006_400 * US
SPAN = TimeRange(START_US + 100 * 15 * US, START_US + 700 * 15 * US)
SERIES, ROUNDS = 220, 800
RANDOM = np.random.default_rng(7)


def closed(first_id: int) -> Columns:
    """Samples of every second id from there on, in two windows, sorted."""
    ids = np.repeat(first_id + 2 * np.arange(SERIES), ROUNDS)
    times_us = START_US + np.tile(np.arange(ROUNDS), SERIES) * 15 * US
    return Columns(ids, times_us, RANDOM.normal(size=len(ids)).round(2))


def recent(last_id: int) -> Columns:
    """Corrections of some of these and samples of the ids between, as they arrive."""
    ids = RANDOM.integers(0, last_id + 50, 5_000)
    times_us = START_US + RANDOM.integers(100, 700, 5_000) * 15 * US
    return Columns(ids, times_us, RANDOM.normal(size=5_000))


def packed(columns: Columns, *, backwards: bool) -> Chunks:
    if not backwards:
        return encode(columns)
    is_odd = columns.series_ids % 4 == 0
    return encode(Columns.joined([columns.picked(is_odd), columns.picked(~is_odd)]))


@pytest.mark.parametrize("backwards", [False, True])
def test_blocks_are_all_there_is_in_the_span_and_the_latest_of_it(*, backwards: bool) -> None:
    parts, late = [closed(100), closed(100 + 2 * SERIES)], recent(100 + 4 * SERIES)
    chunks = [packed(part, backwards=backwards) for part in parts]

    blocks = list(PackedSamples(SPAN, chunks, late, 10**9).blocks())

    expected = latest_arrivals(Columns.joined([part.within(SPAN) for part in parts] + [late]))
    for got, wanted in zip(Columns.joined(blocks), expected, strict=True):
        assert got.tobytes() == wanted.tobytes()
    assert all(one.series_ids[-1] < other.series_ids[0] for one, other in pairwise(blocks))
    assert len(blocks) >= 3
    assert backwards or max(map(len, blocks)) < BLOCK_SAMPLES + 100 * ROUNDS


def test_recent_samples_are_one_block() -> None:
    late = recent(50)

    [block] = PackedSamples(SPAN, [encode(Columns.empty())], late, len(late)).blocks()

    assert block.values.tobytes() == latest_arrivals(late).values.tobytes()
    [nothing] = PackedSamples(SPAN, [], Columns.empty(), 0).blocks()
    assert len(nothing) == 0


def test_samples_of_chunks_count_only_where_they_are_in_the_span() -> None:
    chunks = [encode(closed(100))]
    inside = len(closed(100).within(SPAN))

    assert len(PackedSamples(SPAN, chunks, Columns.empty(), inside).samples()) == inside
    with pytest.raises(QueryTooBroad, match=f"more than {inside - 1} samples"):
        PackedSamples(SPAN, chunks, Columns.empty(), inside - 1).samples()
