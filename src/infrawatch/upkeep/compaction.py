"""Compaction: journal → head, and head → chunks when windows have closed."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, latest_arrivals
from infrawatch.model.timerange import duration_us, from_us, now_us, to_us
from infrawatch.store.buckets import RESOLUTIONS, Buckets
from infrawatch.store.chunks import ChunkRepository
from infrawatch.store.codec import BLOCK_SAMPLES, WINDOW_US, Chunks, by_series, decode, encode
from infrawatch.store.compaction import Backlog, CompactionRepository
from infrawatch.store.database import Database
from infrawatch.store.merging import MergeRepository
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.upkeep.rollups import roll_up

PASS_SAMPLES = 2_000_000
"""What one pass takes: a second of work, and 50 MB of columns."""

BACKLOG_SAMPLES = 1_000_000
"""Over all shards. A query of one metric over 100 hosts took 965 ms with 6 M samples
uncompacted, 91 ms with 0.8 M."""

SAMPLES_PER_SERIES = 64
"""A chunk of the head costs PostgreSQL 3 µs when it is written and 4 when it is merged, whatever is
in it."""

MOST_AGE_S = 600.0
"""Long enough that a scrape every 15 s becomes chunks of 40; half of the journal's slots hold as
much, and the replay window."""

GRACE = timedelta(minutes=10)
"""How long after its end a window is closed: samples that are late by less cost nothing extra."""

MERGE_WINDOWS = 4_000
MERGE_SAMPLES = 2_000_000
"""What one transaction merges at most. Late samples bring with them all that is closed of their
windows: for each, that is 480 at one in 15 s."""

NEIGHBOURS = tuple(range(first, first + 16) for first in range(0, SHARDS, 16))
"""Shards that are merged together: a transaction by itself costs as much as what it does for a few
dozen series. While it runs, nobody else compacts these shards."""

TRY_AGAIN_S = 0.1

EVERYTHING = from_us(4_102_444_800_000_000)  # 2100-01-01


class _Merged(NamedTuple):
    """What becomes of some windows; the buckets are the finest there are."""

    chunks: list[Chunks]
    buckets: Buckets


class Compacted(NamedTuple):
    """What a pass did."""

    samples: int
    chunks: int


def due(backlogs: Sequence[Backlog]) -> list[int]:
    """The shards a pass should take now, the oldest first, no more samples than it takes."""
    is_too_much = sum(one.samples for one in backlogs) >= BACKLOG_SAMPLES
    return _as_many([one for one in backlogs if is_too_much or _is_due(one)])


async def compact(database: Database, shards: Sequence[int]) -> Compacted:
    """Copy what these shards have in the journal into the head, those that nobody else has.

    One transaction: what it wrote and up to where it read become visible together. The journal
    itself is left alone.

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
        samples = 0
        parts: list[Chunks] = []
        async for columns in compaction.read(held, cut, at_least=BLOCK_SAMPLES):
            samples += len(columns)
            parts.append(await asyncio.to_thread(_encoded, columns))
        generation = 1 + max(one.generation for one in locked)
        if parts:
            await ChunkRepository(connection).append_head(parts, generation)
        active = _count_series(parts, held)
        await compaction.advance(active, cut=cut, generation=generation)
    return Compacted(samples, sum(map(len, parts)))


async def merge(database: Database, shards: range, until: datetime) -> Compacted:
    """Move the head's windows that end by `until` into the closed ones, a part at a time.

    What was closed before of the same windows is merged with what came late. Each part is one
    transaction. A window moves as a whole: what stayed in the head would outrank what moved.

    Raises:
        Unavailable: the parts so far are merged; try again later.
    """
    until = from_us(window_of(to_us(until)))
    done, after = Compacted(0, 0), (0, 0, 0)
    while True:
        async with database.writing() as connection:
            merging = MergeRepository(connection)
            await merging.lock(shards)
            windows = await merging.find_windows(
                shards, after, until, most=MERGE_WINDOWS, most_samples=MERGE_SAMPLES
            )
            if len(windows.ids) == 0:
                # Windows that are merged while they are open will have to be merged again.
                await merging.note_merged(shards, min(until, closed_until()))
                return done
            taken = await merging.take(windows)
            merged = await asyncio.to_thread(_merged, taken.chunks)
            days = {from_us(start).date() for start in np.unique(windows.starts_us).tolist()}
            await PartitionRepository(connection).make(CHUNKS, days)
            await ChunkRepository(connection).append(merged.chunks)
            had_samples = taken.closed_windows
            await roll_up(connection, merged.buckets, windows, had_samples)
        done = Compacted(
            done.samples + sum(int(chunks.counts.sum()) for chunks in merged.chunks),
            done.chunks + sum(map(len, merged.chunks)),
        )
        after = windows.end


async def compact_until(database: Database, moment: datetime) -> Compacted:
    """Compact whatever arrived before a moment, due or not.

    Raises:
        Unavailable: the passes so far are done; try again later.
    """
    done = Compacted(0, 0)
    while True:
        async with database.reading() as connection:
            compaction = CompactionRepository(connection)
            backlogs = [one for one in await compaction.backlogs() if one.began_at < moment]
        if not backlogs:
            return done
        passed = await compact(database, _as_many(backlogs))
        if passed.samples == 0:
            await asyncio.sleep(TRY_AGAIN_S)  # somebody else is at it
        done = Compacted(done.samples + passed.samples, done.chunks + passed.chunks)


async def merge_until(database: Database, until: datetime) -> Compacted:
    """Merge what begins before `until`, in all shards.

    Raises:
        Unavailable: what was merged so far is merged; try again later.
    """
    done = Compacted(0, 0)
    for shards in NEIGHBOURS:
        merged = await merge(database, shards, until)
        done = Compacted(done.samples + merged.samples, done.chunks + merged.chunks)
    return done


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


def _is_due(backlog: Backlog) -> bool:
    enough = SAMPLES_PER_SERIES * backlog.active_series
    return backlog.age_s >= MOST_AGE_S or (0 < enough <= backlog.samples)


def _encoded(columns: Columns) -> Chunks:
    return encode(latest_arrivals(columns))


def _merged(chunks: Chunks) -> _Merged:
    encoded: list[Chunks] = []
    buckets: list[Buckets] = []
    for part in by_series(chunks):
        samples = latest_arrivals(decode(part))
        encoded.append(encode(samples))
        buckets.append(Buckets.of(samples, RESOLUTIONS[-1].bucket_us))
    return _Merged(encoded, Buckets.joined(buckets))


def _count_series(parts: Sequence[Chunks], shards: Sequence[int]) -> dict[int, int]:
    """Of each of these shards; a shard is in one part alone."""
    counts = np.zeros(SHARDS, np.int64)
    for chunks in parts:
        ids = np.unique(chunks.series_ids)
        counts += np.bincount(ids & (SHARDS - 1), minlength=SHARDS)
    return {shard: int(counts[shard]) for shard in shards}
