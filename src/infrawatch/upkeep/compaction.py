"""Compaction: journal → head, and head → chunks when windows have closed."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, Int64s, latest_by_shard, series_bounds
from infrawatch.model.timerange import duration_us, from_us, now_us, to_us
from infrawatch.store.chunks import ChunkRepository
from infrawatch.store.codec import BLOCK_SAMPLES, WINDOW_US
from infrawatch.store.compaction import Backlog, CompactionRepository
from infrawatch.store.copy import Piece
from infrawatch.store.database import Database
from infrawatch.store.head_rows import to_copy
from infrawatch.store.merging import Blocks, MergeRepository
from infrawatch.upkeep import fullness
from infrawatch.upkeep.closing import Arriving, Compacted, close

PASS_SAMPLES = 2_000_000
"""What one pass takes: a second of work, and 50 MB of columns."""

BACKLOG_SAMPLES = 1_000_000
"""Over all shards. A query of one metric over 100 hosts took 965 ms with 6 M samples
uncompacted, 91 ms with 0.8 M."""

SAMPLES_PER_SERIES = 64
"""A row of the head costs PostgreSQL as much as its samples do; with fewer of each series it would
hold less of the time that most readers ask for."""

MOST_AGE_S = 600.0
"""Long enough that a scrape every 15 s becomes chunks of 40; half of the journal's slots hold as
much, and the replay window."""

GRACE = timedelta(minutes=10)
"""How long after its end a window is closed: samples that are late by less cost nothing extra."""

MERGE_SAMPLES = 2_000_000
"""What one transaction merges at most, but for a block's window that holds more: it has up to 512
series."""

NEIGHBOURS = tuple(range(first, first + 16) for first in range(0, SHARDS, 16))
"""Shards that are merged together: a transaction by itself costs as much as what it does for a few
dozen series. While it runs, nobody else compacts these shards."""

STATEMENT_DEADLINE = timedelta(minutes=1)
"""For a statement of a merge, a second's work, on a machine that has much else to do."""

TRY_AGAIN_S = 0.1

EVERYTHING = from_us(4_102_444_800_000_000)  # 2100-01-01


class _Sorted(NamedTuple):
    """What becomes of some samples: rows of the head, or chunks; how many series each shard has."""

    rows: list[Piece]
    full: list[Arriving]
    samples: int
    series: Int64s


def due(backlogs: Sequence[Backlog]) -> list[int]:
    """The shards a pass should take now, the oldest first, no more samples than it takes."""
    is_too_much = sum(one.samples for one in backlogs) >= BACKLOG_SAMPLES
    return _as_many([one for one in backlogs if is_too_much or _is_due(one)])


async def compact(
    database: Database, shards: Sequence[int], *, everything: bool = False
) -> Compacted:
    """Copy what these shards have in the journal, those that nobody else has.

    Windows of which it has a good part are closed at once, with all there is of them; or all of
    which it has anything, if `everything` is to be. The rest goes into the head. One transaction:
    what it wrote and up to where it read become visible together. The journal itself is left alone.

    Raises:
        Unavailable: nothing has changed; try again later.
    """
    async with database.writing() as connection:
        compaction = CompactionRepository(connection)
        locked = await compaction.lock(shards)
        if not locked:
            return Compacted(0, 0)
        held = [one.shard for one in locked]
        cut = await compaction.cut(held, most_samples=PASS_SAMPLES)
        generation = 1 + max(one.generation for one in locked)
        least_buckets = 1 if everything else fullness.FULL_BUCKETS
        parts = [
            await asyncio.to_thread(_sorted, columns, generation, least_buckets)
            async for columns in compaction.read(held, cut, at_least=BLOCK_SAMPLES)
        ]
        if rows := [piece for part in parts for piece in part.rows]:
            await ChunkRepository(connection).append_head(rows)
        chunks = 0
        for full in _together([one for part in parts for one in part.full]):
            blocks = Blocks.joined([one.blocks for one in full])
            chunks += (await close(connection, blocks, full)).chunks
        series = sum((part.series for part in parts), np.zeros(SHARDS, np.int64))
        active = {shard: int(series[shard]) for shard in held}
        await compaction.advance(active, cut=cut, generation=generation)
    return Compacted(sum(part.samples for part in parts), chunks)


async def merge(database: Database, shards: range, until: datetime) -> Compacted:
    """Move the head's windows that end by `until` into the closed ones, a part at a time.

    Each part is one transaction.

    Raises:
        Unavailable: the parts so far are merged; try again later.
    """
    until = from_us(window_of(to_us(until)))
    done, after = Compacted(0, 0), None
    while True:
        async with database.writing() as connection:
            merging = MergeRepository(connection)
            await merging.lock(shards)
            blocks = await merging.find_blocks(shards, after, until, most_samples=MERGE_SAMPLES)
            if not blocks.shards:
                # Windows that are merged while they are open will have to be merged again.
                await merging.note_merged(shards, min(until, closed_until()))
                return done
            closed = await close(connection, blocks)
        done = done.plus(closed)
        after = blocks.last


async def compact_until(
    database: Database, moment: datetime, *, everything: bool = False
) -> Compacted:
    """Compact whatever arrived until a moment, or is there now, due or not.

    What it finds is closed at once if `everything` is to be, as `merge_until` would do afterwards.

    Raises:
        Unavailable: the passes so far are done; try again later.
    """
    done = Compacted(0, 0)
    backlogs = await _backlogs(database)
    # After the clock was set back, what is there arrived later than now.
    moment = max([moment, *(one.began_at for one in backlogs)])
    while waiting := [one for one in backlogs if one.began_at <= moment]:
        passed = await compact(database, _as_many(waiting), everything=everything)
        if passed.samples == 0:
            await asyncio.sleep(TRY_AGAIN_S)  # somebody else is at it
        done = done.plus(passed)
        backlogs = await _backlogs(database)
    return done


async def merge_until(database: Database, until: datetime) -> Compacted:
    """Merge what begins before `until`, in all shards.

    Raises:
        Unavailable: what was merged so far is merged; try again later.
    """
    done = Compacted(0, 0)
    for shards in NEIGHBOURS:
        done = done.plus(await merge(database, shards, until))
    return done


async def _backlogs(database: Database) -> list[Backlog]:
    async with database.reading() as connection:
        return await CompactionRepository(connection).backlogs()


def closed_until() -> datetime:
    """The end of the last window that is closed by now."""
    return from_us(window_of(now_us() - duration_us(GRACE)))


def window_of(time_us: int) -> int:
    """The beginning of the window a time falls into."""
    return time_us // WINDOW_US * WINDOW_US


def _as_many(backlogs: Sequence[Backlog]) -> list[int]:
    """The first of these shards, as many as one pass takes, and at least one."""
    totals = accumulate(one.samples for one in backlogs)
    fitting = sum(1 for total in totals if total <= PASS_SAMPLES)
    return [one.shard for one in backlogs[: max(fitting, 1)]]


def _together(parts: Sequence[Arriving]) -> list[list[Arriving]]:
    """The same, as many in one list as are closed in one go."""
    totals = accumulate(len(part.samples.counts) for part in parts)
    by_total = groupby(zip(totals, parts, strict=True), lambda one: one[0] // fullness.MOST_WINDOWS)
    return [[part for _, part in some] for _, some in by_total]


def _is_due(backlog: Backlog) -> bool:
    enough = SAMPLES_PER_SERIES * backlog.active_series
    return backlog.age_s >= MOST_AGE_S or (0 < enough <= backlog.samples)


def _sorted(columns: Columns, generation: int, least_buckets: int) -> _Sorted:
    samples = latest_by_shard(columns)
    ids = samples.series_ids[series_bounds(samples.series_ids)[:-1]]
    full, others = fullness.split(samples, least_buckets)
    return _Sorted(
        list(to_copy(others, generation)) if len(others) > 0 else [],
        [Arriving.of(one) for one in full],
        len(columns),
        np.bincount(ids & (SHARDS - 1), minlength=SHARDS),
    )
