"""The tail: delivers every entry to the hub once, in order for each writer, despite losses."""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing, suppress
from datetime import timedelta

import structlog

from infrawatch.errors import Unavailable
from infrawatch.live.hub import Hub, HubStart
from infrawatch.model.timerange import US, now_us
from infrawatch.store.database import Database
from infrawatch.store.journal import Entry, JournalRepository
from infrawatch.store.series import list_all_ids
from infrawatch.store.writers import WriterRepository

log = structlog.get_logger()

SLACK_US = 60 * US
"""How far before the known position the journal is read: beyond a transaction's deadline."""

UNDER_WAY_US = 2 * US
"""The longest duration of a transaction of another PostgreSQL role, which cannot be seen here."""

MAX_WAITING_SAMPLES = 1_000_000
"""24 MB of entries not applied yet; any beyond that are read from the journal."""

RETRY_S = 1.0


class Tail:
    """Takes entries from this process and from the bus, and reads missing ones from the journal.

    An entry is applied only if it is the next of its writer; an unknown writer starts at 0. The
    tail regularly reads the writers' positions from the database, which reveals entries that the
    bus has lost. Without viewers it does nothing.
    """

    def __init__(
        self, database: Database, hub: Hub, *, poll: timedelta, replay_window: timedelta
    ) -> None:
        self._database = database
        self._hub = hub
        self._poll_s = poll.total_seconds()
        self._window = replay_window
        self._waiting: deque[Entry] = deque()
        self._waiting_samples = 0
        self._arrived = asyncio.Event()
        self._starting = asyncio.Lock()
        self._is_behind = False
        self._lag_s = 0.0

    def offer(self, entry: Entry) -> None:
        """Queue an entry if the hub is active; never blocks."""
        if not self._hub.is_active:
            return
        if self._waiting_samples + len(entry.columns) > MAX_WAITING_SAMPLES:
            self._is_behind = True
        else:
            self._waiting.append(entry)
            self._waiting_samples += len(entry.columns)
        self._arrived.set()

    def lag_s(self) -> float:
        """How far behind the commits viewers may be; 0 while the hub is inactive.

        The larger of the age of the last entry when it was applied, and the time by which a
        successful check of the database is overdue.
        """
        if not self._hub.is_active:
            return 0.0
        return max(self._lag_s, self._hub.since_check_s() - self._poll_s)

    async def start(self) -> None:
        """Start the hub at the writers' positions; a viewer takes its snapshot afterwards.

        Raises:
            Unavailable: the database cannot be read.
        """
        async with self._starting:
            if self._hub.is_active:
                return
            async with self._database.reading() as connection:  # before the snapshot is taken
                since_us = await WriterRepository(connection).under_way_since()
            async with self._database.reading() as connection:
                start = await self._read_start(JournalRepository(connection), since_us)
            self._lag_s = 0.0
            self._hub.start(start)

    async def _read_start(self, journal: JournalRepository, under_way_since_us: int) -> HubStart:
        writers = WriterRepository(journal.connection)
        positions = await writers.positions()
        active = await writers.positions(self._window)
        since_us = min(under_way_since_us, positions.at_us - UNDER_WAY_US)
        entries = journal.replay({}, since_us=max(since_us, positions.at_us - SLACK_US))
        async with aclosing(entries):
            recent = [entry async for entry in entries]
        series_ids = await list_all_ids(journal.connection)
        return HubStart(positions, active.seqs, series_ids, recent)

    async def run(self) -> None:
        """Apply entries forever."""
        clock = asyncio.get_running_loop().time
        due = clock() + self._poll_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._arrived.wait()
            await self._take_all(until=due)
            if self._is_behind or clock() >= due:
                await self._check()
                due = clock() + self._poll_s

    async def _take_all(self, until: float) -> None:
        """Apply waiting entries until one is missing or the next check is due."""
        clock = asyncio.get_running_loop().time
        while self._waiting and not self._is_behind and clock() < until:
            entry = self._waiting.popleft()
            self._waiting_samples -= len(entry.columns)
            expected = self._hub.seqs.get(entry.writer, 0) + 1
            if entry.seq == expected:
                await self._apply(entry)
            elif entry.seq > expected:
                self._is_behind = True
        if not self._waiting:
            self._arrived.clear()

    async def _apply(self, entry: Entry) -> None:
        try:
            await self._hub.apply(entry)
        except Unavailable as error:
            log.warning("live_is_behind", reason=str(error))
            self._is_behind = True  # the next check reads it from the journal
            return
        self._lag_s = max(now_us() - entry.at_us, 0) / US
        await asyncio.sleep(0)  # lets viewers send even while many entries wait

    async def _check(self) -> None:
        """Compare positions with the database, and read missing entries."""
        hub = self._hub
        if not hub.has_viewers:
            hub.stop()
        if not hub.is_active:
            self._forget()
            return
        started = asyncio.get_running_loop().time()
        try:
            async with self._database.reading() as connection:
                positions = await WriterRepository(connection).positions()
                behind = {w: seq for w, seq in positions.seqs.items() if seq > hub.seqs.get(w, 0)}
                self._is_behind = False
                if behind:
                    await self._catch_up(JournalRepository(connection), behind)
        except Unavailable as error:
            self._forget()  # the journal has these entries: do not hold them in memory
            self._is_behind = True
            log.warning("live_is_behind", reason=str(error))
            await asyncio.sleep(RETRY_S)
            return
        if not self._is_behind:
            hub.note_applied(positions.at_us, started)

    async def _catch_up(self, journal: JournalRepository, behind: Mapping[int, int]) -> None:
        """Apply the entries committed since the last time that none was missing."""
        hub = self._hub
        has_hole = False
        since_us = hub.at_us - SLACK_US
        async with aclosing(journal.replay(hub.seqs.copy(), since_us=since_us)) as entries:
            async for entry in entries:
                has_hole = has_hole or entry.seq > hub.seqs.get(entry.writer, 0) + 1
                await self._apply(entry)
                if self._is_behind:
                    break
        for writer, seq in {} if self._is_behind else behind.items():
            if hub.seqs.get(writer, 0) < seq:
                has_hole = True
                hub.skip(writer, seq)
        if has_hole:
            log.error("journal_lost_entries")
            hub.lose_all()

    def _forget(self) -> None:
        self._waiting.clear()
        self._waiting_samples = 0
        self._is_behind = False
        self._arrived.clear()
