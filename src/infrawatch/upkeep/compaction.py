"""Compaction: journal → head, and head → chunks when windows have closed."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, Int64s, latest_by_shard, series_bounds
from infrawatch.model.timerange import duration_us, from_us, now_us, to_us
from infrawatch.store.chunks.codec import BLOCK_SAMPLES, WINDOW_US
from infrawatch.store.chunks.head_rows import to_copy
from infrawatch.store.chunks.merging import Blocks, MergeRepository
from infrawatch.store.chunks.repository import ChunkRepository
from infrawatch.store.columns.copy import Piece
from infrawatch.store.compaction import Backlog, CompactionRepository
from infrawatch.store.database import Database
from infrawatch.upkeep import full_windows
from infrawatch.upkeep.closing import ArrivingWindows, Compacted, close

PASS_SAMPLES = 2_000_000
"""The samples one pass takes: a second of work, and 50 MB of columns."""

BACKLOG_SAMPLES = 1_000_000
"""The backlog of all shards from which every shard is due. A query of one metric over 100 hosts
took 965 ms with 6 M samples uncompacted, 91 ms with 0.8 M."""

BURST_SAMPLES = 500_000
"""What arrives between two looks in a burst: history is imported, or agents catch up. Passes in the
middle of it would write its windows again and again."""

BURST_BACKLOG_SAMPLES = 4_000_000
"""The backlog of all shards from which every shard is due even during a burst: readers wait for
most of a second then."""

SAMPLES_PER_SERIES = 64
"""The samples per active series from which a shard is due. A row of the head costs PostgreSQL as
much as its samples do; with fewer samples per series it would cover less of the time range that
most queries ask for."""

MAX_AGE_S = 600.0
"""The age of the oldest sample from which a shard is due: long enough that a scrape every 15 s
yields chunks of 40 samples. Half of the journal's slots hold that much, and the replay window."""

GRACE = timedelta(minutes=10)
"""How long after its end a window is closed; samples late by less cost nothing extra."""

MERGE_SAMPLES = 2_000_000
"""The most samples one transaction merges, except for a single window of a block that holds more:
a block has up to 512 series."""

SHARD_GROUPS = tuple(range(first, first + 16) for first in range(0, SHARDS, 16))
"""Shards that are merged in one transaction, whose overhead equals the work for a few dozen series.
While it runs, no other process compacts these shards."""

STATEMENT_DEADLINE = timedelta(minutes=1)
"""For a statement of a merge: a second of work, but possibly on a busy machine."""

TRY_AGAIN_S = 0.1

EVERYTHING = from_us(4_102_444_800_000_000)  # 2100-01-01


class _Encoded(NamedTuple):
    """Samples turned into rows of the head or into chunks, and the number of series per shard."""

    rows: list[Piece]
    full: list[ArrivingWindows]
    samples: int
    series: Int64s


def due(backlogs: Sequence[Backlog], *, arrived_samples: int = 0) -> list[int]:
    """Return the due shards, in the order of `backlogs`, as many as fit into one pass.

    `arrived_samples` is how much the backlog has grown since the previous look.
    """
    total = sum(one.samples for one in backlogs)
    if arrived_samples >= BURST_SAMPLES and total < BURST_BACKLOG_SAMPLES:
        return _fitting([one for one in backlogs if one.age_s >= MAX_AGE_S])
    is_too_much = total >= BACKLOG_SAMPLES
    return _fitting([one for one in backlogs if is_too_much or _is_due(one)])


async def compact(
    database: Database,
    shards: Sequence[int],
    *,
    everything: bool = False,
) -> Compacted:
    """Compact the journal of these shards, skipping shards that another process has locked.

    Windows of which the journal holds a good part are closed at once, merged with their stored
    samples; with `everything`, all windows it has samples of are. The rest goes into the head. All
    of it is one transaction, so the output and the shards' new positions become visible together.
    The journal itself is not changed.

    Several shards have to hold no more than a pass takes, as those that `due` returns do; what has
    arrived since then is taken as well. Of a single shard, at most `PASS_SAMPLES` are taken.

    Raises:
        Unavailable: nothing has changed; try again later.
    """
    async with database.writing() as connection:
        compaction = CompactionRepository(connection)
        locked = await compaction.lock(shards)
        if not locked:
            return Compacted(0, 0)
        mine = [one.shard for one in locked]
        # Counting costs a third as much as reading.
        cut = await compaction.cut(mine, max_samples=None if len(shards) > 1 else PASS_SAMPLES)
        generation = 1 + max(one.generation for one in locked)
        min_buckets = 1 if everything else full_windows.FULL_BUCKETS
        parts = [
            await asyncio.to_thread(_encode, columns, generation, min_buckets)
            async for columns in compaction.read(mine, cut, at_least=BLOCK_SAMPLES)
        ]
        chunks = await _store(connection, parts)
        series = sum((part.series for part in parts), np.zeros(SHARDS, np.int64))
        active = {shard: int(series[shard]) for shard in mine}
        await compaction.advance(active, cut=cut, generation=generation)
    return Compacted(sum(part.samples for part in parts), chunks)


async def merge(database: Database, shards: range, until: datetime) -> Compacted:
    """Close the windows of the head that end by `until`, in several transactions.

    Raises:
        Unavailable: earlier transactions remain committed; try again later.
    """
    until = from_us(window_of(to_us(until)))
    done, after = Compacted(0, 0), None
    while True:
        async with database.writing() as connection:
            merging = MergeRepository(connection)
            await merging.lock(shards)
            blocks = await merging.find_blocks(shards, after, until, max_samples=MERGE_SAMPLES)
            if not blocks.shards:
                # Windows merged while still open have to be merged again.
                await merging.note_merged(shards, min(until, closed_until()))
                return done
            closed = await close(connection, blocks)
        done = done.plus(closed)
        after = blocks.last


async def compact_until(
    database: Database, moment: datetime, *, everything: bool = False
) -> Compacted:
    """Compact everything that arrived until `moment` or is in the journal now, due or not.

    With `everything`, its windows are closed at once, as `merge_until` would do afterwards.

    Raises:
        Unavailable: earlier passes remain committed; try again later.
    """
    done = Compacted(0, 0)
    backlogs = await _backlogs(database)
    # If the clock was set back, the times of arrival in the journal may lie in the future.
    moment = max([moment, *(one.began_at for one in backlogs)])
    while waiting := [one for one in backlogs if one.began_at <= moment]:
        shards = _fitting(waiting)
        passed = await compact(database, shards, everything=everything)
        if passed.samples == 0:
            await asyncio.sleep(TRY_AGAIN_S)  # another process is compacting these shards
        done = done.plus(passed)
        backlogs = await _backlogs(database)
    return done


async def merge_until(database: Database, until: datetime) -> Compacted:
    """Close the windows of the head that end by `until`, in all shards.

    Raises:
        Unavailable: earlier transactions remain committed; try again later.
    """
    done = Compacted(0, 0)
    for shards in SHARD_GROUPS:
        done = done.plus(await merge(database, shards, until))
    return done


async def _store(connection: AsyncConnection, parts: Sequence[_Encoded]) -> int:
    """Store rows of the head and chunks; return the number of chunks."""
    if rows := [piece for part in parts for piece in part.rows]:
        await ChunkRepository(connection).append_head(rows)
    chunks = 0
    for full in _in_batches([one for part in parts for one in part.full]):
        blocks = Blocks.joined([one.blocks for one in full])
        chunks += (await close(connection, blocks, full)).chunks
    return chunks


async def _backlogs(database: Database) -> list[Backlog]:
    async with database.reading() as connection:
        return await CompactionRepository(connection).backlogs()


def closed_until() -> datetime:
    """Return the end of the last window that is due to be closed now."""
    return from_us(window_of(now_us() - duration_us(GRACE)))


def window_of(time_us: int) -> int:
    """Return the start of the window that contains a time."""
    return time_us // WINDOW_US * WINDOW_US


def _fitting(backlogs: Sequence[Backlog]) -> list[int]:
    """Return the first shards, as many as one pass takes, but at least one."""
    totals = accumulate(one.samples for one in backlogs)
    fitting = sum(1 for total in totals if total <= PASS_SAMPLES)
    return [one.shard for one in backlogs[: max(fitting, 1)]]


def _in_batches(parts: Sequence[ArrivingWindows]) -> list[list[ArrivingWindows]]:
    """Group the parts into lists that are each closed in one call."""
    totals = accumulate(len(part.samples.counts) for part in parts)
    by_total = groupby(
        zip(totals, parts, strict=True), lambda one: one[0] // full_windows.MAX_WINDOWS
    )
    return [[part for _, part in some] for _, some in by_total]


def _is_due(backlog: Backlog) -> bool:
    enough = SAMPLES_PER_SERIES * backlog.active_series
    return backlog.age_s >= MAX_AGE_S or (0 < enough <= backlog.samples)


def _encode(columns: Columns, generation: int, min_buckets: int) -> _Encoded:
    samples = latest_by_shard(columns)
    ids = samples.series_ids[series_bounds(samples.series_ids)[:-1]]
    full, others = full_windows.split(samples, min_buckets)
    return _Encoded(
        list(to_copy(others, generation)) if len(others) > 0 else [],
        [ArrivingWindows.of(one) for one in full],
        len(columns),
        np.bincount(ids & (SHARDS - 1), minlength=SHARDS),
    )
