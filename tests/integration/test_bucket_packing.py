"""Buckets through PostgreSQL: packed into rows, taken apart there by SQL and here by numpy."""

from collections.abc import Sequence

import numpy as np
import pytest
from arbitrary import SPECIAL_BITS, arbitrary_columns
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Columns, Float64s
from infrawatch.model.timerange import US
from infrawatch.store.columns import copy
from infrawatch.store.database import Database
from infrawatch.store.rollups.bucket_packing import FUNCTIONS, pack_buckets, unpack_buckets
from infrawatch.store.rollups.buckets import (
    FIVE_MINUTES,
    RESOLUTIONS,
    ROW_BUCKETS,
    Buckets,
    Resolution,
)
from infrawatch.store.rollups.rows import ROLLUP_COLUMNS, ROLLUP_FIELDS, from_row, to_copy

START_US = 1_790_006_400 * US

_TABLE = text("CREATE TEMP TABLE packed (LIKE rollups_5m INCLUDING ALL) ON COMMIT DROP")
_ROWS = text(f"SELECT {ROLLUP_FIELDS} FROM packed AS k")
_LARGEST = text("SELECT max(pg_column_size(k)) FROM packed AS k")
_COLUMNS = ("series_id", "at", "count", "sum", "min", "max", "last")
_BUCKETS = f"""
SELECT {", ".join(f"substr(array_send(array_agg({one})), 21)" for one in _COLUMNS)}
FROM (
    SELECT b.* FROM packed AS k
    CROSS JOIN LATERAL rollup_buckets(
        k.start_at, interval '{{bucket_s}} seconds', k.facts, k.words, k.raw) AS b
    WHERE b.series_id BETWEEN k.first_id AND k.last_id AND k.block = b.series_id >> 15
        AND k.shard = b.series_id & 63
    ORDER BY b.series_id, b.at
) AS buckets
"""


async def decoded_by_sql(connection: AsyncConnection, resolution: Resolution) -> Buckets:
    statement = text(_BUCKETS.format(bucket_s=resolution.bucket_us // US))
    sent = (await connection.execute(statement)).one()
    ids, times, *functions = (copy.from_joined_elements(one or b"") for one in sent)
    return Buckets(ids, times + copy.PG_EPOCH_US, *(one.view(np.float64) for one in functions))


async def assert_both_decoders_give(connection: AsyncConnection, buckets: Buckets) -> None:
    """In a table like those of rollups, of either resolution, that is dropped again."""
    for resolution in RESOLUTIONS:
        whole = buckets.coarser(resolution.bucket_us)
        async with connection.begin_nested() as savepoint:
            await connection.execute(_TABLE)
            rows = to_copy(pack_buckets(whole, resolution.bucket_us))
            await copy.copy_binary(connection, "packed", ROLLUP_COLUMNS, [rows])
            sent = from_row((await connection.execute(_ROWS)).one())
            by_numpy = Buckets.sorted([unpack_buckets(sent, resolution.bucket_us)])
            by_sql = await decoded_by_sql(connection, resolution)
            assert ((await connection.execute(_LARGEST)).scalar_one() or 0) < 3_200
            await savepoint.rollback()
        for decoded in (by_numpy, by_sql):
            for came_back, went_in in zip(decoded, whole, strict=True):
                np.testing.assert_array_equal(came_back.view(np.int64), went_in.view(np.int64))


def of_values(values: Sequence[Float64s]) -> Buckets:
    """Of series with these values, one in 15 s; series 64 apart share a shard and a block."""
    sizes = [len(one) for one in values]
    return Buckets.of(
        Columns(
            np.repeat(64 * np.arange(len(sizes)), sizes),
            np.concatenate([START_US + np.arange(size) * 15 * US for size in sizes]),
            np.concatenate(values),
        ),
        FIVE_MINUTES.bucket_us,
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arbitrary_columns())
async def test_both_decoders_give_back_every_bucket_bit_for_bit(
    database: Database, columns: Columns
) -> None:
    async with database.writing() as connection:
        await assert_both_decoders_give(connection, Buckets.of(columns, FIVE_MINUTES.bucket_us))


async def test_special_values_survive_one_by_one_and_together(database: Database) -> None:
    bits = list(SPECIAL_BITS.values())
    series = [[one] for one in bits] + [[one, 0, one, one] for one in bits] + [bits]
    values = [np.array(one, np.uint64).view(np.float64) for one in series]
    async with database.writing() as connection:
        await assert_both_decoders_give(connection, of_values(values))


async def test_many_series_are_cut_into_rows_that_fit_a_page(database: Database) -> None:
    chance = np.random.default_rng(3)
    raw = [chance.random(1_000) for _ in range(40)]
    widest = [chance.choice([2.0**52, -(2.0**52), 1, 3], 1_000) for _ in range(40)]
    counters = [np.cumsum(chance.integers(0, 10**5, 1_000)).astype(np.float64) for _ in range(600)]
    async with database.writing() as connection:
        await assert_both_decoders_give(connection, of_values([*raw, *widest, *counters]))


@pytest.mark.parametrize(
    ("values", "max_bytes"),
    [
        (np.full(480, 17.25), 0),
        (1e6 + 15 * np.arange(480.0), 2),
        (np.cumsum(np.random.default_rng(4).integers(0, 10**5, 480)).astype(np.float64), 10),
        (4096 * np.random.default_rng(5).integers(10**5, 10**5 + 1000, 480).astype(np.float64), 7),
    ],
    ids=["constant", "straight", "counter", "pages"],
)
def test_a_bucket_takes_a_few_bytes(values: Float64s, max_bytes: float) -> None:
    packed = pack_buckets(of_values([values]), FIVE_MINUTES.bucket_us)

    assert packed.raw.nbytes == 0
    assert packed.words.nbytes <= max_bytes * ROW_BUCKETS
    assert packed.bits.shape == (1, FUNCTIONS)
