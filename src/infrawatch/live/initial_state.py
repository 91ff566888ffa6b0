"""The initial state of a subscription: series, the writers' positions, and samples up to them."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np
import structlog

from infrawatch.errors import DeadlineExceeded, QueryTooBroad, Unavailable
from infrawatch.live.mailbox import MAX_SAMPLES, Reason
from infrawatch.live.options import SubscriptionOptions
from infrawatch.live.recent_entries import unreplaced
from infrawatch.live.tail import SLACK_US, Tail
from infrawatch.live.update import Position
from infrawatch.model.cursor import Cursor
from infrawatch.model.samples import Columns, Int64s, is_among
from infrawatch.model.timerange import FAR_FUTURE_US, US, TimeRange, now_us, parse_time
from infrawatch.store.database import Database
from infrawatch.store.journal import JournalRepository
from infrawatch.store.selection.catalog import Series, SeriesCatalog
from infrawatch.store.snapshot import Snapshot

log = structlog.get_logger()

RETRY_S = 1.0

AT_ONCE = 4
"""Snapshots read at a time: a thousand viewers that reconnect must leave room for queries."""

LATEST_US = 300 * US
"""Without `since` a snapshot has the last sample of each series within five minutes."""


class InitialState(NamedTuple):
    """Read from one snapshot of the database; when resumed, `columns` has the missed samples."""

    series: Sequence[Series]
    position: Position
    columns: Columns
    is_resumed: bool = False
    lost: Reason | None = None


class InitialStateReader:
    """Reads the initial states of subscriptions; one per process."""

    def __init__(
        self,
        database: Database,
        tail: Tail,
        epoch: UUID,
        *,
        replay_window: timedelta,
        max_series: int,
    ) -> None:
        self._database = database
        self._tail = tail
        self._epoch = epoch
        self._window = replay_window
        self._max_series = max_series
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._catalog = SeriesCatalog()  # so that topics share their series objects

    async def read(self, options: SubscriptionOptions, resume: Cursor | None) -> InitialState:
        """Read the state, retrying while the database is away: a viewer outlives its restart.

        Raises:
            InvalidInput: the selector matches too many series, or `since` is not a time.
            DeadlineExceeded: reading takes too long, and would again.
        """
        while True:
            try:
                async with self._turns:
                    await self._tail.start()
                    async with self._database.reading() as connection:
                        return await self._read(JournalRepository(connection), options, resume)
            except DeadlineExceeded:
                raise
            except Unavailable as error:
                log.warning("live_snapshot_failed", reason=str(error))
            await asyncio.sleep(RETRY_S)

    async def _read(
        self, journal: JournalRepository, options: SubscriptionOptions, resume: Cursor | None
    ) -> InitialState:
        snapshot = Snapshot.on(journal.connection, options.tenant_id, MAX_SAMPLES, self._catalog)
        seqs, at_us = await snapshot.writers.positions(self._window)
        position = Position(self._epoch, at_us, seqs)
        series = await snapshot.series.select(options.selector, limit=self._max_series + 1)
        if len(series) > self._max_series:
            raise QueryTooBroad(
                f"the selector means more than {self._max_series} series: add a label to it, "
                "or raise INFRAWATCH_READ_MAX_SERIES"
            )
        ids = np.array([one.id for one in series], np.int64)
        lost = None
        if resume is not None:
            lost = await self._why_not_resumable(journal, resume)
            missed = lost or await _replayed(journal, resume, ids, seqs)
            if isinstance(missed, Columns):
                return InitialState(series, position, missed, is_resumed=True)
            lost = missed
        return InitialState(series, position, await _samples(snapshot, options, ids), lost=lost)

    async def _why_not_resumable(self, journal: JournalRepository, resume: Cursor) -> Reason | None:
        """The reason why the journal cannot resume from a cursor; None if it can."""
        if resume.epoch != self._epoch:
            return "other_database"
        # This also locks the journal, so that nothing is emptied before it has been read.
        return "replay_window_passed" if resume.at_us < await journal.floor() else None


async def _samples(snapshot: Snapshot, options: SubscriptionOptions, ids: Int64s) -> Columns:
    now = now_us()
    if options.since is None:
        return await snapshot.samples.find_last(ids, TimeRange(now - LATEST_US, FAR_FUTURE_US))
    span = TimeRange(parse_time(options.since, now=now), FAR_FUTURE_US)
    try:
        return await snapshot.samples.read(ids, span)
    except QueryTooBroad:
        raise QueryTooBroad(
            f"a snapshot has at most {MAX_SAMPLES} samples: choose a later `since` or fewer "
            "series, and read what is older with GET /v1/samples"
        ) from None


async def _replayed(
    journal: JournalRepository, resume: Cursor, ids: Int64s, reached: Mapping[int, int]
) -> Columns | Reason:
    """The samples that came after a cursor, until each writer had `reached` its seq.

    Or why they cannot be sent: they are too many for a viewer, or some are not found.

    The cursor may be behind one writer and ahead of another. A sample that arrived before one that
    the viewer has of the same series and time is left out, so that it does not replace that one.
    """
    seqs, since_us = resume.seqs, resume.at_us - SLACK_US
    first_us = await journal.find_first_beyond(seqs, since_us=since_us)
    parts: list[Columns] = []
    is_known: list[bool] = []
    samples, new = 0, Counter[int]()
    if first_us is None:
        return _unless_lost(Columns.empty(), new, seqs, reached)
    async with aclosing(journal.replay({}, since_us=first_us)) as entries:
        async for entry in entries:
            part = entry.columns.picked(is_among(entry.columns.series_ids, ids))
            parts.append(part)
            is_known.append(entry.seq <= seqs.get(entry.writer, 0))
            new[entry.writer] += not is_known[-1]
            samples += len(part)
            if samples > MAX_SAMPLES:
                return "slow_viewer"
    return _unless_lost(unreplaced(parts, is_known), new, seqs, reached)


def _unless_lost(
    missed: Columns, new: Counter[int], seqs: Mapping[int, int], reached: Mapping[int, int]
) -> Columns | Reason:
    """What a viewer missed, unless fewer entries than were committed are new to it.

    That is so where the database's clock was set back: entries arrived before the cursor was made.
    A writer that the cursor does not name had committed nothing for long, or ever.
    """
    for writer, seq in reached.items():
        if new[writer] < seq - seqs.get(writer, max(seq - 1, 0)):
            log.error("journal_lost_entries", writer=writer)
            return "journal_lost"
    return missed
