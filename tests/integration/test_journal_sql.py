"""The journal through PostgreSQL: written by its function, read there by SQL and here by numpy."""

import numpy as np
import pytest
from arbitrary import SPECIAL_BITS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Columns
from infrawatch.store.columns import copy
from infrawatch.store.database import Database
from infrawatch.store.journal import JOINED, JournalRepository
from infrawatch.store.journal_rows import ROW_SAMPLES, from_packed
from infrawatch.store.writers import WriterRepository

START_US = 1_790_006_400_000_000

DECODED = text("""
SELECT string_agg(int8send(series_id), '' ORDER BY shard, place),
    string_agg(timestamptz_send(at), '' ORDER BY shard, place),
    string_agg(float8send(value), '' ORDER BY shard, place)
FROM (
    SELECT j.shard, j.first + u.i AS place, u.series_id, u.at, u.value FROM journal j
    CROSS JOIN LATERAL journal_samples(j.samples, j.series_ids, j.times, j."values", j.odd) u
) AS decoded
""")
SENT = text(JOINED.format(join="", condition=""))

BITS = st.sampled_from(sorted(SPECIAL_BITS.values())) | st.integers(0, 2**64 - 1)
SAMPLES = st.lists(
    st.tuples(st.integers(64, 2**62), st.integers(0, 2**50), BITS), min_size=1, max_size=200
)
RUNS = st.lists(
    st.tuples(
        st.sampled_from([64, 65, 128, 2**62]),
        st.integers(0, 2**50),
        st.integers(0, 2**40),
        st.lists(BITS, min_size=1, max_size=60),
    ),
    min_size=1,
    max_size=20,
)
"""A series, its first time, how far times are apart, and the values."""


async def assert_both_readers_give(connection: AsyncConnection, columns: Columns) -> None:
    await connection.execute(text("TRUNCATE journal"))
    writer = (await WriterRepository(connection).register()).writer
    await JournalRepository(connection).append(writer, 1, columns)
    ordered = columns.picked(np.argsort(columns.series_ids & 63, kind="stable"))
    by_sql = from_packed((await connection.execute(DECODED)).one())
    rows = (await connection.execute(SENT, {"shards": list(range(64))})).all()
    sent = [fields for _, *fields in sorted(rows, key=lambda row: row[0])]
    by_numpy = Columns.joined([from_packed(one) for one in sent])
    for read in (by_sql, by_numpy, from_packed(*sent)):
        for came_back, went_in in zip(read, ordered, strict=True):
            np.testing.assert_array_equal(came_back.view(np.int64), went_in.view(np.int64))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
async def test_sql_and_numpy_read_runs_of_samples_as_they_were_written(
    database: Database, runs: list[tuple[int, int, int, list[int]]]
) -> None:
    counts = [len(bits) for *_, bits in runs]
    ids, starts, steps = (np.repeat([run[n] for run in runs], counts) for n in range(3))
    places = np.concatenate([np.arange(count) for count in counts])
    values = np.array([one for *_, bits in runs for one in bits], np.uint64).view(np.float64)
    async with database.writing() as connection:
        times_us = starts + steps * places + copy.PG_EPOCH_US
        await assert_both_readers_give(connection, Columns(ids, times_us, values))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SAMPLES)
async def test_sql_and_numpy_read_every_bit_that_was_written(
    database: Database, samples: list[tuple[int, int, int]]
) -> None:
    ids, times, bits = zip(*samples, strict=True)
    columns = Columns(
        np.array(ids, np.int64),
        np.array(times, np.int64) + copy.PG_EPOCH_US,
        np.array(bits, np.uint64).view(np.float64),
    )
    async with database.writing() as connection:
        await assert_both_readers_give(connection, columns)


@pytest.mark.parametrize("value", [1.5, float("nan"), 5e-324])
async def test_the_fullest_row_fits_a_page(database: Database, value: float) -> None:
    ids = np.full(2 * ROW_SAMPLES + 1, 2**62, np.int64)
    times_us = START_US + np.arange(len(ids))
    async with database.writing() as connection:
        await assert_both_readers_give(connection, Columns(ids, times_us, np.full(len(ids), value)))


@pytest.mark.parametrize("value", [1.5, float("nan"), 5e-324])
@pytest.mark.parametrize("length", [2, 7, 4_000])
async def test_the_fullest_row_of_runs_fits_a_page(
    database: Database, length: int, value: float
) -> None:
    numbers = np.arange(4_000)
    ids = 64 * (1 + numbers // length % 2)
    async with database.writing() as connection:
        columns = Columns(ids, START_US + 1_000_000 * numbers, np.full(len(ids), value))
        await assert_both_readers_give(connection, columns)
