"""Schedules compaction, merging, partitions and retention, in any number of processes."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from infrawatch.errors import Unavailable
from infrawatch.store.chunks.merging import MergeRepository
from infrawatch.store.compaction import Backlog, CompactionRepository
from infrawatch.store.database import Database
from infrawatch.store.partitions import CHUNKS, PartitionedTable, PartitionRepository
from infrawatch.store.writers import WriterRepository
from infrawatch.telemetry import Telemetry
from infrawatch.upkeep import compaction
from infrawatch.upkeep.retention import retain
from infrawatch.upkeep.slots import SpentSlots, empty_slots, find_spent

log = structlog.get_logger()

COMPACT_EVERY_S = 5.0
MERGE_EVERY_S = 60.0
EMPTY_EVERY_S = 30.0
RETAIN_EVERY_S = 600.0

IMMEDIATELY_S = 0.0
"""A server that starts compacts what others left and applies a changed retention. The other jobs
wait for their turn, and then need no connections of their own."""

DAYS_AHEAD = 2
"""A day's partition exists at least a day before its first sample can be closed."""

WRITER_KEPT = timedelta(days=1)
"""A writer silent for longer is removed; if its process is still alive, it registers a new one."""


class Scheduler:
    """Runs the jobs that keep the store small; several schedulers never do the same work twice.

    `retentions` gives how long each table is kept; None means for ever.

    A job that finds the database unavailable, or its work locked by another process, runs again at
    its next interval.
    """

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        *,
        retentions: Mapping[PartitionedTable, timedelta | None],
        replay_window: timedelta,
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self._retentions = retentions
        self._replay_window = replay_window
        self._spent: SpentSlots | None = None
        self._backlog_samples = 0

    @property
    def runs(self) -> Sequence[Callable[[], Coroutine[object, object, None]]]:
        """The endless tasks, to be run concurrently."""
        return [
            partial(self._run_repeatedly, job, first_s, every_s)
            for job, first_s, every_s in (
                (self.compact, IMMEDIATELY_S, COMPACT_EVERY_S),
                (self.merge, MERGE_EVERY_S, MERGE_EVERY_S),
                (self.empty_slots, EMPTY_EVERY_S, EMPTY_EVERY_S),
                (self.retain, IMMEDIATELY_S, RETAIN_EVERY_S),
            )
        ]

    async def compact(self) -> None:
        """Compact all shards that are due; during a burst, only once a lot has arrived."""
        before = self._backlog_samples
        backlogs = await self._backlogs()
        shards = compaction.due(backlogs, arrived_samples=self._backlog_samples - before)
        while shards and await self._compact(shards):
            shards = compaction.due(await self._backlogs())

    async def merge(self) -> None:
        """Close the windows that have ended, several shards at a time."""
        until = compaction.closed_until()
        async with self._database.reading() as connection:
            unmerged = set(await MergeRepository(connection).unmerged(until))
        for shards in compaction.SHARD_GROUPS:
            if not unmerged.isdisjoint(shards):
                merged = await compaction.merge(self._database, shards, until)
                self._telemetry.merged_samples.inc(merged.samples)

    async def empty_slots(self) -> None:
        """Empty the slots of the journal that the previous run already found spent.

        TRUNCATE ignores snapshots: a reader that began before the compaction would lose the rows.
        """
        if self._spent is not None:
            await empty_slots(self._database, self._spent)
        before = datetime.now(UTC) - self._replay_window
        self._spent = await find_spent(self._database, before)

    async def retain(self) -> None:
        """Create the partitions of the coming days; drop expired ones and forget silent writers."""
        today = datetime.now(UTC).date()
        async with self._database.writing() as connection:
            ahead = (today + timedelta(days=days) for days in range(DAYS_AHEAD + 1))
            await PartitionRepository(connection).make(CHUNKS, ahead)
            await WriterRepository(connection).forget_silent(WRITER_KEPT)
        for table, retention in self._retentions.items():
            if retention is not None:
                await retain(self._database, table, retention)

    async def _backlogs(self) -> list[Backlog]:
        async with self._database.reading() as connection:
            backlogs = await CompactionRepository(connection).backlogs()
        self._backlog_samples = sum(one.samples for one in backlogs)
        self._telemetry.uncompacted_samples.set(self._backlog_samples)
        return backlogs

    async def _compact(self, shards: list[int]) -> int:
        done = await compaction.compact(self._database, shards)
        self._telemetry.compacted_samples.inc(done.samples)
        return done.samples

    async def _run_repeatedly(
        self, job: Callable[[], Awaitable[None]], first_s: float, every_s: float
    ) -> None:
        wait_s = first_s
        while True:
            # Jitter: processes started together should not all run their jobs at the same time.
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311  # no secret
            wait_s = every_s
            try:
                await job()
            except Unavailable as error:
                log.info("upkeep_put_off", job=job.__name__, reason=str(error))
