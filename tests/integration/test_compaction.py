"""Whatever compaction does and when, the samples stay the same: the last arrival of each wins."""

import itertools
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import StoreUnavailable
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Columns
from infrawatch.model.timerange import TimeRange, from_us, now_us
from infrawatch.store import compaction as store_compaction
from infrawatch.store.chunks.codec import Chunks
from infrawatch.store.chunks.merging import MergeRepository
from infrawatch.store.chunks.repository import ChunkRepository
from infrawatch.store.compaction import Backlog, CompactionRepository
from infrawatch.store.database import Database
from infrawatch.store.journal import JournalRepository
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.store.samples import SampleRepository
from infrawatch.store.series import SeriesRepository
from infrawatch.store.writers import WriterRepository
from infrawatch.upkeep import compaction, full_windows
from infrawatch.upkeep.retention import drop
from infrawatch.upkeep.slots import empty_all_slots, empty_slots, find_spent

TENANT = 1
HOUR_US = 3_600_000_000
ALL_SHARDS = range(64)

Model = dict[tuple[int, int], float]


class Writers:
    """Several writers of one database, and a model of what they stored."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns: dict[int, int] = {}
        self.model: Model = {}

    async def write(self, number: int, samples: list[tuple[int, int, float]]) -> None:
        async with self._database.committing() as connection:
            await self.write_in(connection, number, samples)

    async def write_in(
        self, connection: AsyncConnection, number: int, samples: list[tuple[int, int, float]]
    ) -> None:
        columns = Columns(
            np.array([series_id for series_id, _, _ in samples], np.int64),
            np.array([time for _, time, _ in samples], np.int64),
            np.array([value for _, _, value in samples], np.float64),
        )
        if number not in self._turns:
            async with self._database.writing() as registering:
                self._turns[number] = (
                    await WriterRepository(registering).register()
                ).writer * 1_000_000
        self._turns[number] += 1
        writer, seq = divmod(self._turns[number], 1_000_000)
        await JournalRepository(connection).append(writer, seq, columns)
        self.model |= {(series_id, time): value for series_id, time, value in samples}


@pytest.fixture
async def writers(database: Database) -> Writers:
    return Writers(database)


@pytest.fixture
async def series_ids(database: Database) -> list[int]:
    names = [SeriesName.of("m", {"host": f"h{number}"}) for number in range(12)]
    async with database.writing() as connection:
        return await SeriesRepository(connection, TENANT).resolve(names)


async def read(database: Database, ids: list[int], span: TimeRange | None = None) -> Model:
    async with database.reading() as connection:
        repository = SampleRepository(connection, max_samples=10_000_000)
        columns = await repository.read(ids, span or TimeRange(0, now_us() + 10 * HOUR_US))
    keys = zip(columns.series_ids.tolist(), columns.times_us.tolist(), strict=True)
    return dict(zip(keys, columns.values.tolist(), strict=True))


async def view(database: Database) -> Model:
    """What people with SQL see."""
    async with database.reading() as connection:
        rows = await connection.exec_driver_sql("SELECT series_id, at, value FROM samples")
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return {
            (row.series_id, (row.at - epoch) // timedelta(microseconds=1)): row.value
            for row in rows
        }


async def test_random_work_in_random_order_leaves_exactly_the_last_arrivals(
    database: Database, writers: Writers, series_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    monkeypatch.setattr(full_windows, "MAX_WINDOWS", 5)
    newest_us = now_us() // 1_000_000 * 1_000_000
    for _ in range(60):
        match chance.randrange(6):
            case 0 | 1 | 2:
                start_us = newest_us - chance.choice((1, 3, 30, 60)) * HOUR_US
                await writers.write(
                    chance.randrange(3),
                    [
                        (
                            chance.choice(series_ids),
                            start_us + chance.randrange(2_000) * 5_000_000,
                            round(chance.uniform(0, 100), chance.randrange(6)),
                        )
                        for _ in range(chance.randrange(1, 400))
                    ],
                )
            case 3:
                monkeypatch.setattr(full_windows, "FULL_BUCKETS", chance.choice((1, 6, 25)))
                shards, is_all = chance.sample(ALL_SHARDS, 40), chance.random() < 0.2
                await compaction.compact(database, shards, everything=is_all)
            case 4:
                until = from_us(newest_us - chance.randrange(0, 40) * HOUR_US)
                for shard in {one % 64 for one in series_ids}:
                    await compaction.merge(database, range(shard, shard + 1), until)
            case _:
                await empty_slots(database, await find_spent(database, datetime.now(UTC)))
    assert await read(database, series_ids) == writers.model
    assert await view(database) == writers.model

    await compaction.compact_until(database, datetime.now(UTC))
    await compaction.merge_until(database, compaction.EVERYTHING)
    assert await empty_all_slots(database) == 1
    assert await read(database, series_ids) == writers.model
    assert await view(database) == writers.model


async def test_a_late_sample_ends_in_its_chunk_and_a_correction_replaces_it(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    one = series_ids[0]
    start_us = (now_us() // (2 * HOUR_US) - 2) * 2 * HOUR_US
    await writers.write(
        0, [(one, start_us + n * 15_000_000, float(n)) for n in range(200) if n != 7]
    )
    await compaction.compact(database, ALL_SHARDS)
    await compaction.merge_until(database, compaction.EVERYTHING)

    await writers.write(1, [(one, start_us + 7 * 15_000_000, 7.0), (one, start_us, -1.5)])
    await compaction.compact(database, ALL_SHARDS)
    await compaction.merge_until(database, compaction.EVERYTHING)

    assert await read(database, [one]) == writers.model
    async with database.reading() as connection:
        rows = await connection.exec_driver_sql("SELECT count, start_at, end_at FROM chunks")
        assert [row[0] for row in rows] == [200]


async def test_two_passes_at_once_never_take_the_same_shard(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    await writers.write(0, [(one, now_us(), 1.0) for one in series_ids])
    async with database.writing() as connection:
        held = await CompactionRepository(connection).lock(list(ALL_SHARDS))
        assert len(held) == 64
        assert await compaction.compact(database, ALL_SHARDS) == (0, 0)
    assert (await compaction.compact(database, ALL_SHARDS)).samples == len(series_ids)
    assert (await compaction.compact(database, ALL_SHARDS)).samples == 0


async def test_a_pass_waits_for_a_commit_that_has_its_arrival_already(
    database: Database, series_ids: list[int]
) -> None:
    """Else what arrives before the cut but is committed after it would be lost for ever."""
    async with database.writing() as connection:
        writer = (await WriterRepository(connection).register()).writer
    columns = Columns(
        np.array(series_ids[:1], np.int64), np.array([now_us()], np.int64), np.array([1.0])
    )
    async with database.writing() as connection:
        await connection.exec_driver_sql("SELECT")  # opens the transaction
        await JournalRepository(connection).append(writer, 1, columns)
        with pytest.raises(Exception, match="refuses work for now"):
            await compaction.compact(database, ALL_SHARDS)
    assert (await compaction.compact(database, ALL_SHARDS)).samples == 1
    assert len(await read(database, series_ids)) == 1


async def test_a_shard_with_more_than_a_pass_takes_is_compacted_in_several(
    database: Database, writers: Writers, series_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PASS_SAMPLES", 100)
    for number in range(8):
        start_us = now_us() - HOUR_US + number * 60_000_000
        await writers.write(0, [(series_ids[0], start_us + n, float(n)) for n in range(60)])
    passes = [await compaction.compact(database, [series_ids[0] % 64]) for _ in range(8)]
    assert sum(one.samples for one in passes) == 480
    assert max(one.samples for one in passes) <= 100
    assert await read(database, series_ids) == writers.model


async def empty(database: Database, before: datetime) -> int:
    return await empty_slots(database, await find_spent(database, before))


async def test_a_slot_is_kept_while_anything_in_it_waits_for_compaction(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    hour = timedelta(hours=1)
    await writers.write(0, [(one, now_us(), 1.0) for one in series_ids])
    assert await empty(database, datetime.now(UTC) + hour) == 0
    await compaction.compact(database, ALL_SHARDS)
    assert await empty(database, datetime.now(UTC) - hour) == 0
    assert await empty(database, datetime.now(UTC) + hour) == 1
    assert await read(database, series_ids) == writers.model


async def test_a_slot_is_kept_for_readers_that_began_before_its_compaction(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    await writers.write(0, [(one, now_us(), 1.0) for one in series_ids])
    async with database.reading() as connection:
        reader = SampleRepository(connection, max_samples=1_000)
        await reader.read([], TimeRange(0, 1))  # the snapshot is taken
        await compaction.compact(database, ALL_SHARDS)
        assert await empty(database, datetime.now(UTC)) == 0
        found = await reader.read(series_ids, TimeRange(0, now_us() + HOUR_US))
        assert len(found) == len(series_ids)
    assert await empty(database, datetime.now(UTC)) == 1


async def test_a_slot_is_kept_for_what_was_being_committed_when_it_was_looked_at(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    """Whoever begins to read between that commit and its compaction needs it in the journal."""
    await writers.write(0, [(one, now_us(), 1.0) for one in series_ids])
    await compaction.compact(database, ALL_SHARDS)
    async with database.writing() as connection:
        await connection.exec_driver_sql("SELECT")  # opens the transaction
        await writers.write_in(connection, 1, [(one, now_us(), 2.0) for one in series_ids])
        spent = await find_spent(database, datetime.now(UTC))
    async with database.reading() as connection:
        await connection.execute(text("SELECT 1"))  # the snapshot is taken
        await compaction.compact(database, ALL_SHARDS)
        assert await empty_slots(database, spent) == 0
        reader = SampleRepository(connection, max_samples=1_000)
        found = await reader.read(series_ids, TimeRange(0, now_us() + HOUR_US))
        assert len(found) == 2 * len(series_ids)


async def test_a_pass_that_is_cut_early_moves_no_shard_back(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    """What is compacted twice outranks what arrived after it and is compacted already."""
    late, early = series_ids[:2]
    for value in (1.0, 2.0):
        await writers.write(0, [(late, now_us() + n, value) for n in range(60)])
    await writers.write(0, [(early, now_us(), 1.0)])
    await compaction.compact(database, [early % 64])
    passed = await find_compacted_until(database, early)
    async with database.writing() as connection:
        repository = CompactionRepository(connection)
        cut = await repository.cut(ALL_SHARDS, max_samples=100)
        assert cut.until < passed
        await repository.advance(dict.fromkeys(ALL_SHARDS, 1), cut=cut, generation=2)
    assert await find_compacted_until(database, early) == passed


async def find_compacted_until(database: Database, series_id: int) -> datetime:
    async with database.reading() as connection:
        asked = text("SELECT compacted_until FROM shards WHERE shard = :shard")
        found = await connection.execute(asked, {"shard": series_id % 64})
        at: datetime = found.scalar_one()
        return at


async def test_a_window_is_merged_as_a_whole_so_that_the_last_arrival_still_wins(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    one = series_ids[0]
    start_us = (now_us() // (2 * HOUR_US) - 2) * 2 * HOUR_US
    await writers.write(0, [(one, start_us + n * HOUR_US // 2, 0.0) for n in (2, 3)])
    await compaction.compact(database, ALL_SHARDS)
    await writers.write(0, [(one, start_us + n * HOUR_US // 2, 1.0) for n in (0, 1, 2)])
    await compaction.compact(database, ALL_SHARDS)
    await compaction.merge_until(database, from_us(start_us + HOUR_US))
    assert await read(database, [one]) == writers.model
    assert await view(database) == writers.model


async def test_merging_everything_does_not_end_merging(database: Database) -> None:
    await compaction.merge_until(database, compaction.EVERYTHING)
    async with database.reading() as connection:
        next_end = compaction.closed_until() + timedelta(hours=2)
        assert len(await MergeRepository(connection).unmerged(next_end)) == 64


async def test_a_pass_closes_the_windows_that_it_mostly_holds(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    minute_us = HOUR_US // 60
    start_us = (now_us() // (2 * HOUR_US) - 4) * 2 * HOUR_US
    # Twice the same quarter of a window, with a late sample between; then the rest, and a late one.
    for minutes, value in ((range(30), 1.0), ([5], 2.0), (range(30), 3.0), (range(7, 120), 4.0)):
        told = [(one, start_us + n * minute_us, value) for one in series_ids for n in minutes]
        await writers.write(0, told)
        await compaction.compact(database, ALL_SHARDS)
        assert await read(database, series_ids) == await view(database) == writers.model
        async with database.reading() as connection:
            counted = await connection.exec_driver_sql("""
                SELECT (SELECT count(*) FROM chunks_head) > 0,
                    (SELECT sum(count) FROM chunks), (SELECT sum(count) FROM rollup_5m)
            """)
        is_late, stored = minutes == [5], len(writers.model)
        assert counted.one() == (is_late, stored, stored)


async def test_a_merge_is_cut_into_parts_by_windows_and_by_samples(
    database: Database, writers: Writers, series_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    append = ChunkRepository.append

    async def noting(self: ChunkRepository, parts: Sequence[Chunks]) -> None:
        sizes.append(sum(int(chunks.counts.sum()) for chunks in parts))
        await append(self, parts)

    monkeypatch.setattr(ChunkRepository, "append", noting)
    monkeypatch.setattr(compaction, "MERGE_SAMPLES", 25)
    monkeypatch.setattr(full_windows, "FULL_BUCKETS", 25)
    end_us = (now_us() // (2 * HOUR_US) - 2) * 2 * HOUR_US
    samples = [(series_ids[0], end_us - n * HOUR_US // 5, float(n)) for n in range(100)]
    samples += [(series_ids[1], end_us - n * 3 * HOUR_US, float(n)) for n in range(8)]
    await writers.write(0, samples)
    await compaction.compact(database, ALL_SHARDS)
    await compaction.merge_until(database, compaction.EVERYTHING)
    assert sum(sizes) == 108
    assert max(sizes) <= 30
    assert await read(database, series_ids) == writers.model


async def test_a_pass_during_which_the_clock_is_set_back_is_done_again(
    database: Database, writers: Writers, series_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what arrived meanwhile, by that clock before the cut, would be lost for ever."""
    await writers.write(0, [(one, now_us(), 1.0) for one in series_ids])
    with monkeypatch.context() as patched:
        # Nobody may set this machine's clock back: instead, ours goes an hour ahead.
        hours = (time.monotonic() + 3_600 * n for n in itertools.count())
        patched.setattr(store_compaction, "monotonic", lambda: next(hours))
        with pytest.raises(StoreUnavailable, match="set back"):
            await compaction.compact(database, ALL_SHARDS)
    assert await read(database, series_ids) == writers.model
    assert (await compaction.compact(database, ALL_SHARDS)).samples == len(series_ids)


async def test_days_are_made_once_and_dropped_whole(
    database: Database, writers: Writers, series_ids: list[int]
) -> None:
    old_us = now_us() - 10 * 24 * HOUR_US
    await writers.write(0, [(series_ids[0], old_us, 1.0), (series_ids[0], now_us(), 2.0)])
    await compaction.compact(database, ALL_SHARDS)
    await compaction.merge_until(database, compaction.EVERYTHING)
    async with database.writing() as connection:
        partitions = PartitionRepository(connection)
        await partitions.make(CHUNKS, [from_us(old_us).date()])
        assert from_us(old_us).date() in await partitions.find(CHUNKS)
    assert await drop(database, CHUNKS, from_us(old_us).date())
    assert list((await read(database, series_ids)).values()) == [2.0]


def test_old_or_large_backlogs_are_due() -> None:
    began = datetime.now(UTC)

    def backlog(shard: int, active: int, samples: int, age_s: float) -> Backlog:
        return Backlog(shard, active, samples, began, age_s)

    young = backlog(1, 1_000, 15_000, 1)
    assert compaction.due([young]) == []
    assert compaction.due([backlog(2, 1_000, 64_000, 1), young]) == [2]
    assert compaction.due([backlog(3, 1_000, 10, compaction.MAX_AGE_S + 1), young]) == [3]
    assert compaction.due([backlog(4, 10**6, 600_000, 2), backlog(5, 10**6, 500_000, 1)]) == [4, 5]
    assert compaction.due([backlog(6, 0, 5_000_000, 1), backlog(7, 0, 10, 500)]) == [6]


def test_during_a_burst_only_age_or_four_million_samples_make_shards_due() -> None:
    began = datetime.now(UTC)
    young, old = Backlog(1, 10, 1_500_000, began, 9.0), Backlog(2, 10, 5, began, 700.0)
    much = Backlog(3, 10, 3_000_000, began, 9.0)
    assert compaction.due([young], arrived_samples=600_000) == []
    assert compaction.due([young], arrived_samples=400_000) == [1]
    assert compaction.due([old, young], arrived_samples=600_000) == [2]
    assert compaction.due([much, young], arrived_samples=600_000) == [3]
