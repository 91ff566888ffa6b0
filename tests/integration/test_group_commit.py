"""Group commit: senders that come together share a transaction, and one alone never waits."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy as np
import pytest

from infrawatch.ingest import writer as group_writer
from infrawatch.ingest.writer import GroupWriter
from infrawatch.model.samples import Columns
from infrawatch.store.database import Database
from infrawatch.telemetry import Telemetry

TENANT = 1
ONE_SAMPLE = Columns(np.array([64]), np.array([1_790_000_000_000_000]), np.array([1.0]))


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[GroupWriter]:
    async with running(database) as (writer, _):
        yield writer


@asynccontextmanager
async def running(
    database: Database,
) -> AsyncGenerator[tuple[GroupWriter, asyncio.Task[None]], None]:
    """A writer and the task that commits, until the block ends."""
    writer = GroupWriter(
        database,
        Telemetry(),
        backlog_samples=100,
        group_samples=100,
        deadline=timedelta(seconds=30),
        on_committed=lambda _entry: None,
    )
    async with asyncio.TaskGroup() as tasks:
        yield writer, tasks.create_task(writer.run())
        writer.close()


async def write_together(writer: GroupWriter, batches: int) -> list[int]:
    """The seq of the commit that each batch is in."""
    commits = await asyncio.gather(*(writer.write(TENANT, ONE_SAMPLE) for _ in range(batches)))
    return [commit.seq for commit in commits]


async def test_a_group_waits_for_as_many_senders_as_shared_the_last(
    writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_writer, "GATHER_S", 60)
    assert await write_together(writer, 3) == [1, 1, 1]

    first = asyncio.ensure_future(write_together(writer, 1))
    for _ in range(100):  # as long as it likes to begin without the others
        await asyncio.sleep(0)
    others = await write_together(writer, 2)

    assert [*await first, *others] == [2, 2, 2]


async def test_batches_beyond_one_group_are_taken_by_tenants_in_turn(
    writer: GroupWriter,
) -> None:
    half = Columns.joined(50 * [ONE_SAMPLE])
    flood = [asyncio.ensure_future(writer.write(1, half)) for _ in range(6)]
    other = asyncio.ensure_future(writer.write(2, half))

    seqs = [(await one).seq for one in (*flood, other)]

    assert seqs == [1, 2, 2, 3, 3, 4, 1]


async def test_a_cancelled_batch_takes_no_turn(writer: GroupWriter) -> None:
    impatient = [asyncio.ensure_future(writer.write(1, ONE_SAMPLE)) for _ in range(2)]
    other = asyncio.ensure_future(writer.write(2, ONE_SAMPLE))
    await asyncio.sleep(0)
    for one in impatient:
        one.cancel()
    await asyncio.wait(impatient)

    assert (await other).seq == 1
    assert all(one.cancelled() for one in impatient)
    assert (await writer.write(1, ONE_SAMPLE)).seq == 2


async def test_a_group_does_not_wait_for_disconnected_senders(writer: GroupWriter) -> None:
    assert await write_together(writer, 3) == [1, 1, 1]
    assert await write_together(writer, 1) == [2]


async def test_a_sender_that_is_alone_never_waits(
    writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_writer, "GATHER_S", 3600)

    assert [await write_together(writer, 1) for _ in range(3)] == [[1], [2], [3]]


async def test_senders_that_leave_while_a_group_gathers_end_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_writer, "GATHER_S", 0.1)
    async with running(database) as (writer, commits):
        assert await write_together(writer, 3) == [1, 1, 1]

        leaving = asyncio.ensure_future(write_together(writer, 2))
        for _ in range(100):  # until it gathers, since the last group was larger
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([commits], timeout=0.5)

        assert await write_together(writer, 1) == [2]
