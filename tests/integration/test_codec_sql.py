"""Chunks through PostgreSQL: written with COPY, decoded there by SQL and here by numpy."""

import numpy as np
import pytest
from arbitrary import SPECIAL_BITS, arbitrary_columns
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Columns
from infrawatch.model.timerange import US
from infrawatch.store.chunks.codec import MAX_SAMPLES, decode, encode
from infrawatch.store.chunks.rows import CHUNK_COLUMNS, CHUNK_FIELDS, from_row, to_copy
from infrawatch.store.columns import copy
from infrawatch.store.database import Database

START_US = 1_790_006_400 * US

_ARGUMENTS = ", ".join(
    f"{name} => k.{name}" for name in CHUNK_COLUMNS if name not in ("shard", "series_id", "end_at")
)
_SAMPLES = text(f"""
SELECT substr(array_send(array_agg(series_id)), 21), substr(array_send(array_agg(at)), 21),
    substr(array_send(array_agg(value)), 21)
FROM (
    SELECT k.series_id, c.at, c.value
    FROM packed k CROSS JOIN LATERAL chunk_samples({_ARGUMENTS}) AS c
    ORDER BY k.series_id, c.at
) AS samples
""")
_CHUNKS = text(f"""
SELECT {CHUNK_FIELDS} FROM (SELECT * FROM packed ORDER BY series_id, start_at) AS k
""")


async def make_table(connection: AsyncConnection) -> None:
    """A table like any day's, but for all of time."""
    await connection.execute(text("DROP TABLE IF EXISTS packed"))
    await connection.execute(text("CREATE TEMP TABLE packed (LIKE chunks INCLUDING ALL)"))


async def write(connection: AsyncConnection, columns: Columns) -> None:
    await make_table(connection)
    await copy.copy_binary(connection, "packed", CHUNK_COLUMNS, [to_copy(encode(columns))])


async def decoded_by_sql(connection: AsyncConnection) -> Columns:
    sent = (await connection.execute(_SAMPLES)).one()
    series_ids, times, values = (copy.from_joined_elements(one or b"") for one in sent)
    return Columns(series_ids, times + copy.PG_EPOCH_US, values.view(np.float64))


async def decoded_by_numpy(connection: AsyncConnection) -> Columns:
    return decode(from_row((await connection.execute(_CHUNKS)).one()))


async def assert_both_decoders_give(connection: AsyncConnection, columns: Columns) -> None:
    for decoded in (await decoded_by_sql(connection), await decoded_by_numpy(connection)):
        for came_back, went_in in zip(decoded, columns, strict=True):
            np.testing.assert_array_equal(came_back.view(np.int64), went_in.view(np.int64))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arbitrary_columns())
async def test_both_decoders_give_back_every_sample_bit_for_bit(
    database: Database, columns: Columns
) -> None:
    async with database.writing() as connection:
        await write(connection, columns)
        await assert_both_decoders_give(connection, columns)


async def test_special_values_survive_one_by_one_and_together(database: Database) -> None:
    bits = list(SPECIAL_BITS.values())
    series = [[one] for one in bits] + [[one, 0, one, one] for one in bits] + [bits]
    columns = Columns(
        np.repeat(np.arange(len(series)), [len(one) for one in series]),
        np.concatenate([START_US + np.arange(len(one)) * US for one in series]),
        np.array([bit for one in series for bit in one], np.uint64).view(np.float64),
    )
    async with database.writing() as connection:
        await write(connection, columns)
        await assert_both_decoders_give(connection, columns)


@pytest.mark.parametrize(
    "values",
    [
        np.tile([2.0**53 - 1, 1 - 2.0**53], MAX_SAMPLES // 2),
        np.tile([2.0**53 - 1, 1 - 2.0**53, 0], MAX_SAMPLES // 3),
        np.random.default_rng(1).random(MAX_SAMPLES),
    ],
    ids=["two extremes", "three extremes", "random"],
)
async def test_the_worst_chunk_fits_its_row_and_its_sums_fit_bigint(
    database: Database, values: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> None:
    random = np.random.default_rng(2)
    times_us = START_US + np.sort(random.choice(7_200 * US, MAX_SAMPLES, replace=False))
    columns = Columns(np.full(MAX_SAMPLES, 2**63 - 1), times_us, values)
    async with database.writing() as connection:
        await write(connection, columns)
        await assert_both_decoders_give(connection, columns)


async def test_powers_of_ten_are_exact_in_postgresql(database: Database) -> None:
    wrong = text("""
        SELECT count(*) FROM generate_series(0, 22) AS e
        WHERE 10.0::float8 ^ e::smallint <> ('1e' || e)::float8
    """)
    async with database.reading() as connection:
        assert await connection.scalar(wrong) == 0


async def test_the_decoder_is_inlined_so_that_conditions_reach_the_primary_key(
    database: Database,
) -> None:
    explain = text(f"""
        EXPLAIN SELECT c.* FROM packed k CROSS JOIN LATERAL chunk_samples({_ARGUMENTS}) AS c
        WHERE k.shard = 7 AND k.series_id = 71
    """)
    async with database.writing() as connection:
        await make_table(connection)
        plan = "\n".join(await connection.scalars(explain))
    assert "packed_pkey" in plan
    assert "WindowAgg" in plan
    assert "Function Scan on chunk_samples" not in plan
