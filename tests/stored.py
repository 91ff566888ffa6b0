"""The store itself, past the API: samples put into it, and tables held."""

import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.store.database import Database
from infrawatch.store.journal import JournalRepository
from infrawatch.store.series import SeriesRepository
from infrawatch.store.writers import WriterRepository

STALE = struct.unpack("<d", struct.pack("<q", STALE_NAN_BITS))[0]

Told = Mapping[SeriesName, Sequence[tuple[int, float]]]
"""(time in µs, value) by series, in order of arrival."""


def named(metric: str, /, **labels: str) -> SeriesName:
    return SeriesName.of(metric, labels)


async def store(
    database: Database, told: Told, *, tenant_id: int = DEFAULT_TENANT_ID
) -> dict[SeriesName, int]:
    """Commit the samples as the one group of a new writer; gives the ids of their series."""
    names = list(told)
    async with database.writing() as connection:
        ids = await SeriesRepository(connection, tenant_id).resolve(names)
        writer = (await WriterRepository(connection).register()).writer
    samples = [
        (series_id, time_us, value)
        for series_id, name in zip(ids, names, strict=True)
        for time_us, value in told[name]
    ]
    if samples:
        series_ids, times_us, values = zip(*samples, strict=True)
        columns = Columns(
            np.array(series_ids, np.int64), np.array(times_us, np.int64), np.array(values)
        )
        async with database.committing() as connection:
            await JournalRepository(connection).append(writer, 1, columns)
    return dict(zip(names, ids, strict=True))


@asynccontextmanager
async def locked(database: Database, table: str = "writers") -> AsyncGenerator[None, None]:
    """Nobody can write to the table meanwhile."""
    async with database.writing() as connection:
        await connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE MODE")
        yield
