"""The tail: brings the hub every entry once, those of a writer in order, whatever gets lost."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import structlog

from infrawatch.errors import Unavailable
from infrawatch.live.hub import Hub
from infrawatch.model.timerange import US, now_us
from infrawatch.store.database import Database
from infrawatch.store.journal import Entry, JournalRepository
from infrawatch.store.series import list_all_ids
from infrawatch.store.writers import WriterRepository
from infrawatch.telemetry import Telemetry

log = structlog.get_logger()

SLACK_US = 30 * US
"""How far back the journal is read before what is known: a transaction's deadline, and more."""

MAX_WAITING = 1_000
"""Entries not applied yet; the journal has whatever finds no place here."""

RETRY_S = 1.0


class Tail:
    """Takes entries from this process and from the bus, and reads from the journal what is missing.

    An entry is applied only if it is the next of its writer; a writer that is not known yet
    starts at 0. Regularly it asks the database how far the writers are, which finds what the bus
    has lost. While there are no viewers it does nothing at all.
    """

    def __init__(
        self, database: Database, hub: Hub, telemetry: Telemetry, *, poll: timedelta
    ) -> None:
        self._database = database
        self._hub = hub
        self._telemetry = telemetry
        self._poll_s = poll.total_seconds()
        self._waiting: asyncio.Queue[Entry] = asyncio.Queue(MAX_WAITING)
        self._starting = asyncio.Lock()
        self._is_behind = False

    def offer(self, entry: Entry) -> None:
        """Take note of an entry, if anybody wants to know; never blocks."""
        if not self._hub.is_active:
            return
        try:
            self._waiting.put_nowait(entry)
        except asyncio.QueueFull:
            self._is_behind = True

    async def start(self) -> None:
        """Let the hub know where the writers stand; a viewer takes its snapshot afterwards.

        Raises:
            Unavailable: the database cannot say.
        """
        async with self._starting:
            if self._hub.is_active:
                return
            async with self._database.reading() as connection:
                positions = await WriterRepository(connection).positions()
                series_ids = await list_all_ids(connection)
            self._hub.start(positions.seqs, positions.at_us, series_ids)

    async def run(self) -> None:
        """Apply entries for ever."""
        clock = asyncio.get_running_loop().time
        due = clock() + self._poll_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._take(await self._waiting.get())
            if self._is_behind or clock() >= due:
                await self._check()
                due = clock() + self._poll_s

    async def _take(self, entry: Entry) -> None:
        """Apply an entry if it is the next of its writer; remember if one before it is missing."""
        if not self._hub.is_active:
            return
        expected = self._hub.seqs.get(entry.writer, 0) + 1
        if entry.seq == expected and not self._is_behind:
            await self._apply(entry)
        elif entry.seq >= expected:
            self._is_behind = True

    async def _apply(self, entry: Entry) -> None:
        try:
            await self._hub.apply(entry)
        except Unavailable:
            self._is_behind = True  # the journal has it
            return
        self._telemetry.live_lag_seconds.set(max(now_us() - entry.at_us, 0) / US)

    async def _check(self) -> None:
        """Compare with the database, and read what is missing."""
        hub = self._hub
        if not hub.has_viewers:
            hub.stop()
        if not hub.is_active:
            self._is_behind = False
            return
        try:
            async with self._database.reading() as connection:
                positions = await WriterRepository(connection).positions()
                behind = {w: seq for w, seq in positions.seqs.items() if seq > hub.seqs.get(w, 0)}
                self._is_behind = False
                if behind:
                    await self._catch_up(JournalRepository(connection), behind)
        except Unavailable as error:
            self._is_behind = True
            log.warning("live_is_behind", reason=str(error))
            await asyncio.sleep(RETRY_S)
            return
        if not self._is_behind:
            hub.at_us = positions.at_us

    async def _catch_up(self, journal: JournalRepository, behind: Mapping[int, int]) -> None:
        hub = self._hub
        known = [hub.last_at_us(writer) or hub.at_us for writer in behind]
        has_hole = False
        async for entry in journal.replay(hub.seqs.copy(), since_us=min(known) - SLACK_US):
            expected = hub.seqs.get(entry.writer, 0) + 1
            if entry.seq < expected:
                continue
            has_hole = has_hole or entry.seq > expected
            await self._apply(entry)
            if self._is_behind:
                return
        for writer, seq in behind.items():
            if hub.seqs.get(writer, 0) < seq:
                has_hole = True
                hub.seqs[writer] = seq
        if has_hole:
            log.error("journal_lost_entries")
            hub.lose_all("journal_lost")
