"""The jobs of upkeep, as a server runs them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient
from pushing import find_values, now_ms, push, series
from sqlalchemy import text

from infrawatch.errors import InfraWatchError
from infrawatch.store.database import Database
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.telemetry import Telemetry
from infrawatch.upkeep.retention import drop
from infrawatch.upkeep.scheduler import DAYS_AHEAD, Scheduler

DAY = timedelta(days=1)

_COUNTED = """
SELECT relid FROM pg_partition_tree('chunks') JOIN pg_attribute ON attrelid = relid
WHERE attname = ANY('{times,deltas,raw}') AND attstattarget IS DISTINCT FROM 0
"""
"""Partitions of which ANALYZE would count what is packed in each row."""


@pytest.fixture
def upkeep(database: Database) -> Scheduler:
    return Scheduler(
        database, Telemetry(), retentions={CHUNKS: 2 * DAY}, replay_window=timedelta(microseconds=1)
    )


async def test_a_server_that_starts_compacts_and_retains_at_once(
    upkeep: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    is_last = asyncio.Event()
    for name in ("compact", "merge", "empty_slots", "retain"):

        async def begin(name: str = name) -> None:
            begun.append(name)
            if name == "retain":  # others that do not wait have begun by now
                is_last.set()

        monkeypatch.setattr(upkeep, name, begin)
    async with asyncio.TaskGroup() as tasks:
        jobs = [tasks.create_task(run()) for run in upkeep.runs]
        await is_last.wait()
        for job in jobs:
            job.cancel()
    assert begun == ["compact", "retain"]


async def test_a_writer_removed_for_silence_continues_under_another_number(
    client: AsyncClient, database: Database, upkeep: Scheduler
) -> None:
    at = now_ms()
    assert (await push(client, series("m", [at, 1]))).status_code == 200
    async with database.writing() as connection:
        await connection.execute(text("UPDATE writers SET last_at = last_at - interval '2 days'"))
    await upkeep.retain()
    assert (await push(client, series("m", [at + 1, 2]))).status_code == 200
    assert list((await find_values(database, "m")).values()) == [1, 2]


async def test_partitions_exist_before_their_day_and_are_dropped_after_retention(
    database: Database, upkeep: Scheduler
) -> None:
    today = datetime.now(UTC).date()
    async with database.writing() as connection:
        await PartitionRepository(connection).make(CHUNKS, [today - 3 * DAY, today - 2 * DAY])
    await upkeep.retain()
    async with database.reading() as connection:
        days = await PartitionRepository(connection).find(CHUNKS)
        counted = await connection.execute(text(_COUNTED))
    assert days == {today - 2 * DAY} | {today + n * DAY for n in range(DAYS_AHEAD + 1)}
    assert counted.scalars().all() == []


async def test_a_day_that_is_read_is_dropped_between_two_queries(database: Database) -> None:
    day = datetime.now(UTC).date() - 9 * DAY
    async with database.writing() as connection:
        await PartitionRepository(connection).make(CHUNKS, [day])
    async with database.reading() as connection:
        await connection.execute(text("SELECT count(*) FROM chunks"))
        with pytest.raises(InfraWatchError):
            async with database.writing() as other:
                await PartitionRepository(other).drop(CHUNKS, day)
    assert await drop(database, CHUNKS, day)


async def test_the_journal_is_emptied_the_second_time_it_is_found_spent(
    client: AsyncClient, database: Database, upkeep: Scheduler
) -> None:
    await push(client, series("m", [now_ms(), 1]))
    async with database.writing() as connection:
        await connection.execute(text("UPDATE shards SET compacted_until = clock_timestamp()"))
    for left in (1, 0):
        await upkeep.empty_slots()
        async with database.reading() as connection:
            count = await connection.execute(text("SELECT count(*) FROM journal"))
            assert count.scalar_one() == left
