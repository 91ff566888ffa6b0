"""A clock that is temporarily wrong loses no samples, and blocks nothing permanently."""

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import pytest
from httpx import AsyncClient
from pushing import find_values, now_ms, push, series
from sqlalchemy import text
from typing_extensions import override

from infrawatch.model.labels import SHARDS
from infrawatch.store.compaction import CompactionRepository
from infrawatch.store.database import Database
from infrawatch.store.inspection import InspectionRepository
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.telemetry import Telemetry
from infrawatch.upkeep import compaction, retention
from infrawatch.upkeep.scheduler import Scheduler

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def set_clock_back(database: Database, behind: timedelta) -> None:
    """Nobody may set this machine's clock: instead, what is compacted was so by one ahead of it."""
    ahead = datetime.now(UTC) + behind
    async with database.writing() as connection:
        await connection.execute(text("UPDATE shards SET compacted_until = :at"), {"at": ahead})


async def compact(database: Database) -> int:
    """A pass over all shards; a server that has just begun holds none of them to merge them."""
    return (await compaction.compact(database, range(SHARDS))).samples


@pytest.mark.parametrize(("behind", "compacted"), [(HOUR, 1), (timedelta(seconds=30), 0)])
async def test_after_the_clock_was_set_back_nothing_is_overlooked(
    client: AsyncClient, database: Database, behind: timedelta, compacted: int
) -> None:
    """By hours: what comes is compacted all the same. By seconds: as soon as it has caught up."""
    await set_clock_back(database, behind)
    at = now_ms()
    for value in (1, 2, 3):
        await push(client, series("m", [at, value]))
        assert await compact(database) == compacted
        assert list((await find_values(database, "m")).values()) == [value]


async def test_all_is_compacted_by_hand_though_the_clock_was_set_back(
    client: AsyncClient, database: Database
) -> None:
    await set_clock_back(database, HOUR)
    await push(client, series("m", [now_ms(), 1]))
    assert (await compaction.compact_until(database, datetime.now(UTC))).samples == 1


async def test_samples_arriving_during_a_pass_after_the_clock_was_set_back_are_in_the_next(
    client: AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would arrive before the cut, and after the pass had read what is before it."""
    await set_clock_back(database, HOUR)
    at = now_ms()
    await push(client, series("m", [at, 1]))
    advance = CompactionRepository.advance

    async with asyncio.TaskGroup() as tasks:

        async def while_others_write(self: CompactionRepository, *args: Any, **kwargs: Any) -> None:
            tasks.create_task(push(client, series("m", [at, 2])))
            await _until_somebody_waits(database)
            await advance(self, *args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(CompactionRepository, "advance", while_others_write)
            assert await compact(database) == 1
    assert await compact(database) == 1
    assert list((await find_values(database, "m")).values()) == [2]


async def _until_somebody_waits(database: Database) -> None:
    async with asyncio.timeout(30):
        while True:
            async with database.reading() as connection:
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                if (await connection.execute(waiting)).scalar_one():
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("wrong", ["the database's", "the server's"])
async def test_a_day_is_dropped_only_if_two_clocks_say_so(
    database: Database, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    ahead = datetime.now(UTC) + 365 * DAY

    class Ahead(datetime):
        @override
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(ahead.timestamp(), tz)

    async def said_ahead(_: InspectionRepository) -> datetime:
        return ahead

    if wrong == "the server's":
        monkeypatch.setattr(retention, "datetime", Ahead)
    else:
        monkeypatch.setattr(InspectionRepository, "clock", said_ahead)
    yesterday = datetime.now(UTC).date() - DAY
    async with database.writing() as connection:
        await PartitionRepository(connection).make(CHUNKS, [yesterday])
    upkeep = Scheduler(database, Telemetry(), retentions={CHUNKS: 2 * DAY}, replay_window=HOUR)
    await upkeep.retain()
    async with database.reading() as connection:
        assert yesterday in await PartitionRepository(connection).find(CHUNKS)
