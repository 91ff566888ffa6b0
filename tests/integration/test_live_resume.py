"""Going on where one was: on any server, after a restart, and when that cannot be done."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from conftest import execute
from serving_live import live_server
from stored import named, store
from viewing import Picture, Viewing, now_ms, push, viewing

from infrawatch.live import tail
from infrawatch.live.mailbox import MAX_SAMPLES
from infrawatch.model.cursor import Cursor
from infrawatch.model.samples import Columns
from infrawatch.model.timerange import US
from infrawatch.store.database import Database
from infrawatch.store.journal import JournalRepository
from infrawatch.store.writers import WriterRepository
from infrawatch.upkeep.slots import empty_slots, find_spent

EMPTY_JOURNAL = "UPDATE shards SET compacted_until = clock_timestamp(); TRUNCATE journal"
"""What upkeep does, but that nothing has been compacted: the samples are gone."""

NEWEST_TO_NEXT_SLOT = """
UPDATE journal SET slot = (slot + 1) % 8 WHERE writer = (SELECT max(writer) FROM journal)
"""
OLDEST_SLOT = "SELECT tableoid::regclass FROM journal ORDER BY arrived_at LIMIT 1"
OLDEST_OF_ITS_SHARD = """
SELECT CASE WHEN bool_or(writer = 1) THEN min(arrived_at) ELSE clock_timestamp() END
FROM journal j WHERE j.shard = shards.shard
"""


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[str]:
    async with live_server(database_url) as url:
        yield url


@pytest.fixture
async def seen(server: str) -> Picture:
    """What a viewer saw that has left: the samples 0 to 4."""
    now = now_ms()
    await push(server, "m", [(now, 0)])
    async with viewing(server) as viewer:
        picture = await viewer.subscribe("m")
        for number in range(1, 5):
            await push(server, "m", [(now + number, number)])
        await viewer.until_there_are(picture, 5)
        return picture


async def resumed(viewer: Viewing, seen: Picture) -> Picture:
    """Subscribe again, going on with what was seen."""
    assert seen.cursor is not None
    return await viewer.subscribe("m", resume=seen.cursor)


async def test_another_server_continues_where_the_first_stopped(
    server: str, seen: Picture, database_url: str
) -> None:
    now = now_ms()
    async with live_server(database_url) as other:
        await push(server, "m", [(now + 5, 5)])
        await push(other, "m", [(now + 6, 6)], instance="new")
        async with viewing(other) as viewer:
            again = await resumed(viewer, seen)
            await push(server, "m", [(now + 7, 7)])
            await viewer.until(lambda: 7 in again.values())

    assert sorted(again.values()) == [5, 6, 7]
    assert (again.snapshots, again.gaps) == (0, [])


async def test_a_restart_of_the_server_loses_nothing(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as server:
        await push(server, "m", [(now, 0)])
        async with viewing(server) as viewer:
            picture = await viewer.subscribe("m")
    async with live_server(database_url) as server:
        await push(server, "m", [(now + 1, 1)])
        async with viewing(server) as viewer:
            again = await resumed(viewer, picture)
    assert again.values() == [1]
    assert (again.snapshots, again.gaps) == (0, [])


async def test_a_viewer_that_missed_nothing_is_sent_nothing_again(
    server: str, seen: Picture
) -> None:
    async with viewing(server) as viewer:
        again = await resumed(viewer, seen)
    assert [frame["type"] for frame in viewer.frames] == ["subscribed", "update"]
    assert again.values() == []


async def test_a_journal_that_was_always_empty_has_lost_nothing(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as server:
        async with viewing(server) as viewer:
            picture = await viewer.subscribe("m")
        async with viewing(server) as viewer:
            again = await resumed(viewer, picture)
            await push(server, "m", [(now, 0)])  # arrives after the cursor: the first there is
            await viewer.until_there_are(again, 1)
        async with viewing(server) as viewer:
            also = await resumed(viewer, picture)
    assert (again.gaps, also.gaps, also.values()) == ([], [], [0])


async def test_resuming_beyond_the_journal_is_a_gap(
    server: str, seen: Picture, database_url: str
) -> None:
    now = now_ms()
    await push(server, "m", [(now + 5, 5)])
    execute(database_url, EMPTY_JOURNAL)
    await push(server, "m", [(now + 6, 6)])
    async with viewing(server) as viewer:
        again = await resumed(viewer, seen)
    assert [frame["type"] for frame in viewer.frames] == ["subscribed", "gap", "snapshot"]
    assert again.gaps == ["replay_window_passed"]
    assert again.values() == [6]


@pytest.mark.parametrize("is_in_use", [True, False])
async def test_the_journal_never_loses_what_came_after_its_oldest_entry(
    server: str, seen: Picture, database_url: str, database: Database, is_in_use: bool
) -> None:
    """An old slot that is in use, or not compacted, keeps the newer ones: else nobody could tell
    that they are missing, at least not those of a server that the cursor does not know."""
    now = now_ms()
    async with live_server(database_url) as other:
        await push(other, "m", [(now + 5, 5)], instance="new")
        execute(database_url, NEWEST_TO_NEXT_SLOT)
        slot = execute(database_url, OLDEST_SLOT)
        until = "clock_timestamp()" if is_in_use else f"({OLDEST_OF_ITS_SHARD})"
        execute(database_url, f"UPDATE shards SET compacted_until = {until}")
        async with database.writing() as connection:
            if is_in_use:
                await connection.exec_driver_sql(f"LOCK TABLE {slot} IN ACCESS SHARE MODE")
            assert await empty_slots(database, await find_spent(database, datetime.now(UTC))) == 0
        await push(other, "m", [(now + 6, 6)], instance="new")
        async with viewing(server) as viewer:
            again = await resumed(viewer, seen)
    assert again.values() == [5, 6]
    assert again.gaps == []


async def test_the_cursor_of_another_database_is_a_gap(server: str, seen: Picture) -> None:
    assert seen.cursor is not None
    cursor = Cursor.from_text(seen.cursor)
    seen.cursor = Cursor(uuid4(), cursor.at_us, cursor.seqs).to_text()
    async with viewing(server) as viewer:
        again = await resumed(viewer, seen)
    assert again.gaps == ["other_database"]
    assert again.values() == [4]


@pytest.mark.parametrize("is_new_writer", [False, True])
async def test_what_came_after_the_clock_was_set_back_is_a_gap(
    server: str, seen: Picture, database_url: str, is_new_writer: bool
) -> None:
    assert seen.cursor is not None
    cursor = Cursor.from_text(seen.cursor)
    seen.cursor = replace(cursor, at_us=cursor.at_us + 120 * US).to_text()

    async with live_server(database_url) as other, viewing(server) as viewer:
        unchanged = await resumed(viewer, seen)
        assert (unchanged.snapshots, unchanged.gaps) == (0, [])
        await push(other if is_new_writer else server, "m", [(now_ms(), 5)])
    async with viewing(server) as viewer:
        again = await resumed(viewer, seen)

    assert 5 in again.values()
    assert (again.snapshots, again.gaps) == (1, ["journal_lost"])


async def test_more_than_a_viewer_can_be_sent_is_a_gap(
    server: str, seen: Picture, database: Database
) -> None:
    now = now_ms()
    many = range(MAX_SAMPLES + 1)
    await store(database, {named("m"): [(now * 1000 + 10_000 + n, float(n)) for n in many]})
    async with viewing(server) as viewer:
        again = await resumed(viewer, seen)
    assert again.gaps == ["slow_viewer"]
    assert again.values() == [MAX_SAMPLES]


@pytest.mark.usefixtures("seen")
async def test_entries_lost_while_catching_up_are_a_gap_for_every_viewer(
    server: str, database: Database
) -> None:
    now = now_ms()
    async with viewing(server) as viewer, viewing(server) as other:
        picture, also = await viewer.subscribe("m"), await other.subscribe("n")
        async with database.writing() as connection:
            writer = (await WriterRepository(connection).register()).writer
            await JournalRepository(connection).append(writer, 1, Columns.empty())
        await viewer.until(lambda: picture.gaps)
        await other.until(lambda: also.gaps)
        assert (picture.gaps, also.gaps) == (["journal_lost"], ["journal_lost"])
        await push(server, "m", [(now + 5, 5)])
        await viewer.until(lambda: 5 in picture.values())
        assert picture.values() == [4, 5]


async def test_an_earlier_arrival_committed_later_replaces_nothing(
    server: str, database: Database
) -> None:
    """Neither for who was there before both commits, nor for who came between them."""
    now = now_ms()
    ids = await store(database, {named("m"): [(now * 1000, 0.0)]})
    async with AsyncExitStack() as stack:
        before = await stack.enter_async_context(viewing(server))
        seen_before = await before.subscribe("m")
        late = await stack.enter_async_context(under_way(database, ids[named("m")], now, 1.0))
        await store(database, {named("m"): [(now * 1000, 2.0)]})
        between = await stack.enter_async_context(viewing(server))
        seen_between = await between.subscribe("m")
        await late.aclose()
        await push(server, "m", [(now + 1, 3)])
        # What this server committed can be here before it has looked for what others did.
        await before.until(lambda: seen_before.values() == [2, 3])
        await between.until(lambda: seen_between.values() == [2, 3])


async def test_resuming_never_replaces_a_later_arrival(server: str, database: Database) -> None:
    """A cursor may be behind one writer and ahead of another."""
    now = now_ms()
    ids = await store(database, {named("m"): [(now * 1000, 0.0), (now * 1000 + 1000, 1.0)]})
    async with under_way(database, ids[named("m")], now, 2.0) as late:
        await store(database, {named("m"): [(now * 1000, 3.0)]})
        async with viewing(server) as viewer:
            seen = await viewer.subscribe("m", since="-1h")
    await late.aclose()
    await push(server, "m", [(now + 1, 4), (now + 2, 5)])
    async with viewing(server) as viewer:
        again = await resumed(viewer, seen)
    assert seen.values() == [3, 1]
    assert again.values() == [4, 5]
    assert again.gaps == []


async def test_a_hub_that_starts_between_two_commits_knows_which_arrived_first(
    server: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "UNDER_WAY_US", 0)  # transactions that take long, without the waiting
    now = now_ms()
    ids = await store(database, {named("m"): [(now * 1000, 0.0)]})
    async with under_way(database, ids[named("m")], now, 1.0) as late:
        await store(database, {named("m"): [(now * 1000, 2.0)]})
        async with viewing(server) as viewer:
            picture = await viewer.subscribe("m")
            await late.aclose()
            await push(server, "m", [(now + 1, 3)])
            await viewer.until(lambda: picture.values() == [2, 3])


@asynccontextmanager
async def under_way(
    database: Database, series_id: int, time_ms: int, value: float
) -> AsyncGenerator[AsyncExitStack, None]:
    """A group that has arrived; it is committed when what is given is closed."""
    async with AsyncExitStack() as stack:
        async with database.writing() as connection:
            writer = (await WriterRepository(connection).register()).writer
        connection = await stack.enter_async_context(database.writing())
        columns = Columns(np.array([series_id]), np.array([time_ms * 1000]), np.array([value]))
        await connection.exec_driver_sql("SELECT")  # opens the transaction
        await JournalRepository(connection).append(writer, 1, columns)
        yield stack


@pytest.mark.usefixtures("seen")
async def test_a_mailbox_that_overflows_causes_a_gap_and_a_snapshot(
    server: str, database: Database
) -> None:
    now = now_ms()
    async with viewing(server) as viewer:
        picture = await viewer.subscribe("m")
        many = range(MAX_SAMPLES + 1)
        await store(database, {named("m"): [((now + 10 + n) * 1000, float(n)) for n in many]})
        await viewer.until(lambda: picture.snapshots == 2)
        assert picture.gaps == ["slow_viewer"]
        assert picture.values() == [MAX_SAMPLES]


@pytest.mark.usefixtures("seen")
async def test_latest_keeps_the_newest_of_each_series_and_counts_the_others(
    server: str, database: Database
) -> None:
    now = now_ms()
    async with viewing(server) as viewer:
        picture = await viewer.subscribe("m", delivery="latest")
        half = range(MAX_SAMPLES // 2 + 1)
        series = [named("m", instance=instance) for instance in ("a", "b")]
        await store(
            database, {name: [((now + 10 + n) * 1000, float(n)) for n in half] for name in series}
        )
        await viewer.until_there_are(picture, 3)
        assert picture.gaps == []
        assert picture.coalesced == 2 * (len(half) - 1)
        assert picture.values() == [half[-1], half[-1], 4]
