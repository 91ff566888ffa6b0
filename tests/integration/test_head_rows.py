"""Rows of the head through PostgreSQL: taken apart there by SQL and here by numpy."""

from itertools import pairwise

import numpy as np
import pytest
from arbitrary import SPECIAL_BITS, arbitrary_columns
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Columns, Int64s, is_among, latest_arrivals, series_bounds
from infrawatch.model.timerange import US, TimeRange, from_us
from infrawatch.store.chunks.codec import MAX_SAMPLES, WINDOW_US
from infrawatch.store.chunks.head_rows import HEAD_COLUMNS, HEAD_FIELDS, from_row, to_copy
from infrawatch.store.chunks.repository import ChunkRepository
from infrawatch.store.columns import copy
from infrawatch.store.database import Database
from infrawatch.store.samples import SampleRepository

START_US = 1_790_006_400 * US

_ROWS = text(f"SELECT {HEAD_FIELDS} FROM chunks_head AS k")
_FITS = text("""
SELECT coalesce(bool_and(
    pg_column_size(k) - coalesce(pg_column_size(k.odd), 0) < 8140
    AND k.start_at >= k.window_at AND k.end_at < k.window_at + interval '2 hours'
    AND k.samples * 64 = length(k."values")
), true) FROM chunks_head AS k
""")
_SAMPLES = text("""
SELECT substr(array_send(array_agg(series_id)), 21), substr(array_send(array_agg(at)), 21),
    substr(array_send(array_agg(value)), 21)
FROM (
    SELECT c.* FROM chunks_head AS k
    CROSS JOIN LATERAL head_samples(k.runs, k.times, k."values", k.odd) AS c
    WHERE c.series_id BETWEEN k.first_id AND k.last_id AND k.block = c.series_id >> 15
        AND k.shard = c.series_id & 63 AND c.at BETWEEN k.start_at AND k.end_at
    ORDER BY c.series_id, c.at
) AS samples
""")
_ENDS = text("""
SELECT series_id, min(c.start_at), max(c.end_at)
FROM chunks_head AS k CROSS JOIN LATERAL head_runs(k.runs, k.times) AS c
GROUP BY series_id ORDER BY series_id
""")


async def assert_everybody_reads(connection: AsyncConnection, columns: Columns) -> None:
    await connection.execute(text("DELETE FROM chunks_head"))
    if len(columns) > 0:
        await copy.copy_binary(connection, "chunks_head", HEAD_COLUMNS, list(to_copy(columns, 7)))
    rows = from_row((await connection.execute(_ROWS)).one())
    by_numpy = latest_arrivals(rows.picked(np.arange(len(rows.counts))))
    sent = (await connection.execute(_SAMPLES)).one()
    ids, times, values = (copy.from_joined_elements(one or b"") for one in sent)
    by_sql = Columns(ids, times + copy.PG_EPOCH_US, values.view(np.float64))
    for found in (by_numpy, by_sql):
        for came_back, went_in in zip(found, columns, strict=True):
            np.testing.assert_array_equal(came_back.view(np.int64), went_in.view(np.int64))
    ends = (await connection.execute(_ENDS)).all()
    bounds = pairwise(series_bounds(columns.series_ids).tolist())
    assert [tuple(row) for row in ends] == [
        (
            int(columns.series_ids[first]),
            from_us(int(columns.times_us[first])),
            from_us(int(columns.times_us[end - 1])),
        )
        for first, end in bounds
    ]
    assert (await connection.execute(_FITS)).scalar_one()


def ragged(chance: np.random.Generator, series: int, most: int) -> Columns:
    """Samples of neighbours in three windows: regular, jittered, alone, more than a row takes."""
    sizes = chance.integers(1, most, series)
    gaps_us = [
        np.full(size, 15 * US) if number % 2 else chance.integers(1, 3 * WINDOW_US // size, size)
        for number, size in enumerate(sizes.tolist())
    ]
    return Columns(
        np.repeat(64 * np.arange(series), sizes),
        np.concatenate([START_US + np.cumsum(one) for one in gaps_us]),
        chance.random(int(sizes.sum())).round(3),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arbitrary_columns())
async def test_both_decoders_give_back_every_sample_bit_for_bit(
    database: Database, columns: Columns
) -> None:
    async with database.writing() as connection:
        await assert_everybody_reads(connection, columns)


async def test_special_values_survive_one_by_one_and_together(database: Database) -> None:
    bits = list(SPECIAL_BITS.values())
    series = [[one] for one in bits] + [[one, 0, one, one] for one in bits] + [bits]
    columns = Columns(
        np.repeat(64 * np.arange(len(series)), [len(one) for one in series]),
        np.concatenate([START_US + np.arange(len(one)) * US for one in series]),
        np.array([bit for one in series for bit in one], np.uint64).view(np.float64),
    )
    async with database.writing() as connection:
        await assert_everybody_reads(connection, columns)


@pytest.mark.parametrize(("series", "most"), [(700, 9), (50, 200), (5, 4 * MAX_SAMPLES)])
async def test_series_are_cut_into_rows_that_fit_a_page(
    database: Database, series: int, most: int
) -> None:
    columns = ragged(np.random.default_rng(1), series, most)
    async with database.writing() as connection:
        await assert_everybody_reads(connection, columns)


@pytest.mark.parametrize("wanted", [1, 2, 30, 33, 300])
async def test_few_and_many_neighbours_are_found_among_others(
    database: Database, wanted: int
) -> None:
    chance = np.random.default_rng(2)
    columns = ragged(chance, 300, 60)
    ids = 64 * np.sort(chance.choice(300, wanted, replace=False))
    span = TimeRange(START_US + WINDOW_US // 3, START_US + WINDOW_US + WINDOW_US // 3)
    await assert_found(database, columns, ids, span)


@pytest.mark.parametrize(
    "counts",
    [
        {1: 5, 2: 5, 3: 5, 4: 5},
        {1: 5, 2: 5, 4: 5},
        # As many runs as ids from first to last, but the second has two of them.
        {1: 5, 2: MAX_SAMPLES + 2, 4: 5},
        {1: MAX_SAMPLES + 2, 3: 5},
        {1: 5, 3: MAX_SAMPLES + 2},
    ],
)
@pytest.mark.parametrize("wanted", [1, 2, 3, 4])
async def test_a_neighbour_is_found_wherever_it_lies_in_its_row(
    database: Database, counts: dict[int, int], wanted: int
) -> None:
    columns = Columns(
        np.repeat(64 * np.array(list(counts)), list(counts.values())),
        np.concatenate([START_US + US * np.arange(count) for count in counts.values()]),
        np.arange(sum(counts.values()), dtype=np.float64),
    )
    span = TimeRange(START_US, START_US + WINDOW_US)
    await assert_found(database, columns, np.array([64 * wanted]), span)


async def assert_found(database: Database, columns: Columns, ids: Int64s, span: TimeRange) -> None:
    async with database.writing() as connection:
        await connection.execute(text("SELECT 1"))  # begins the transaction
        await ChunkRepository(connection).append_head(list(to_copy(columns, 1)))
        found = await SampleRepository(connection, max_samples=len(columns)).read(ids, span)
    expected = columns.picked(is_among(columns.series_ids, ids)).within(span)
    for came_back, went_in in zip(found, expected, strict=True):
        np.testing.assert_array_equal(came_back, went_in)


async def test_the_decoders_are_inlined_so_that_conditions_reach_the_index(
    database: Database,
) -> None:
    async with database.reading() as connection:
        for decoder in (
            'head_samples(k.runs, k.times, k."values", k.odd)',
            "head_runs(runs, times)",
        ):
            explain = text(f"""
                EXPLAIN SELECT c.* FROM chunks_head k CROSS JOIN LATERAL {decoder} AS c
                WHERE k.shard = 7 AND k.block = 0 AND k.first_id <= 71 AND k.last_id >= 71
                    AND c.series_id = 71
            """)
            plan = "\n".join(await connection.scalars(explain))
            assert "chunks_head_block" in plan
            assert "Function Scan on head_" not in plan
