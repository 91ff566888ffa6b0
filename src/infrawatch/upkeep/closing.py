"""Closing windows: all they have becomes chunks and buckets, in place of what was closed before."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Columns, latest_by_shard
from infrawatch.store.buckets import RESOLUTIONS, Buckets
from infrawatch.store.chunks import ChunkRepository
from infrawatch.store.codec import BLOCK_SAMPLES, Chunks, decode, encode
from infrawatch.store.head_rows import HeadSamples
from infrawatch.store.merging import Blocks, MergeRepository, Taken, Windows
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.upkeep.fullness import Full
from infrawatch.upkeep.rollups import roll_up


class Compacted(NamedTuple):
    """What was done; what stays in the head is in no chunks yet."""

    samples: int
    chunks: int

    def plus(self, more: "Compacted") -> "Compacted":
        return Compacted(self.samples + more.samples, self.chunks + more.chunks)


class Closed(NamedTuple):
    """What becomes of some windows; the buckets are the finest there are."""

    chunks: list[Chunks]
    buckets: Buckets

    @classmethod
    def of(cls, parts: Iterable[Columns]) -> Self:
        """Of samples that are sorted by (shard, series, time) and unique."""
        chunks: list[Chunks] = []
        buckets: list[Buckets] = []
        for part in parts:
            chunks.append(encode(part))
            buckets.append(Buckets.of(part, RESOLUTIONS[-1].bucket_us))
        return cls(chunks, Buckets.joined(buckets))


class Arriving(NamedTuple):
    """What arrives of windows of blocks, and what becomes of them if there is nothing else of them.

    Mostly there is not. To encode samples at once, while they are in the processor's caches, takes
    less than to keep them until that is known.
    """

    blocks: Blocks
    samples: HeadSamples
    closed: Closed

    @classmethod
    def of(cls, full: Full) -> Self:
        return cls(full.blocks, full.to_runs(), Closed.of([full.samples]))


async def close(
    connection: AsyncConnection, blocks: Blocks, arriving: Sequence[Arriving] = ()
) -> Compacted:
    """Move these windows out of the head into chunks, with what arrives now, within a transaction.

    What was closed before of the same series is merged with it. A window moves as a whole: what
    stayed in the head would outrank what moved.
    """
    samples = [one.samples for one in arriving]
    taken = await MergeRepository(connection).take(blocks, samples)
    if len(taken.closed) > 0 or len(taken.head.counts) > 0:
        closed = await asyncio.to_thread(_merged, taken, samples)
    else:
        chunks = [part for one in arriving for part in one.closed.chunks]
        closed = Closed(chunks, Buckets.joined([one.closed.buckets for one in arriving]))
    days = {start_at.date() for start_at in blocks.starts_at}
    await PartitionRepository(connection).make(CHUNKS, days)
    await ChunkRepository(connection).append(closed.chunks)
    had_samples = Windows(taken.closed.series_ids, taken.closed.starts_us)
    await roll_up(connection, closed.buckets, taken.windows, had_samples)
    return Compacted(
        sum(int(chunks.counts.sum()) for chunks in closed.chunks), sum(map(len, closed.chunks))
    )


def _merged(taken: Taken, arriving: Sequence[HeadSamples]) -> Closed:
    closed = decode(taken.closed)
    before = HeadSamples(
        taken.closed.series_ids, taken.closed.counts, closed.times_us, closed.values
    )
    samples = HeadSamples.joined([before, taken.head, *arriving])
    return Closed.of(latest_by_shard(part) for part in samples.by_series(BLOCK_SAMPLES))
