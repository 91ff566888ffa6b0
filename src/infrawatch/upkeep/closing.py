"""Closing windows: all they have becomes chunks and buckets, in place of what was closed before."""

import asyncio
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import latest_by_shard
from infrawatch.store.buckets import RESOLUTIONS, Buckets
from infrawatch.store.chunks import ChunkRepository
from infrawatch.store.codec import BLOCK_SAMPLES, Chunks, decode, encode
from infrawatch.store.head_rows import HeadSamples
from infrawatch.store.merging import Blocks, MergeRepository, Taken, Windows
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.upkeep.rollups import roll_up


class Compacted(NamedTuple):
    """What was done; what stays in the head is in no chunks yet."""

    samples: int
    chunks: int

    def plus(self, more: "Compacted") -> "Compacted":
        return Compacted(self.samples + more.samples, self.chunks + more.chunks)


class _Merged(NamedTuple):
    """What becomes of some windows; the buckets are the finest there are."""

    chunks: list[Chunks]
    buckets: Buckets


async def close(
    connection: AsyncConnection, blocks: Blocks, arriving: HeadSamples | None = None
) -> Compacted:
    """Move these windows out of the head into chunks, with what arrives now, within a transaction.

    What was closed before of the same series is merged with it. A window moves as a whole: what
    stayed in the head would outrank what moved.
    """
    taken = await MergeRepository(connection).take(blocks, arriving)
    merged = await asyncio.to_thread(_merged, taken)
    days = {start_at.date() for start_at in blocks.starts_at}
    await PartitionRepository(connection).make(CHUNKS, days)
    await ChunkRepository(connection).append(merged.chunks)
    had_samples = Windows(taken.closed.series_ids, taken.closed.starts_us)
    await roll_up(connection, merged.buckets, taken.windows, had_samples)
    return Compacted(
        sum(int(chunks.counts.sum()) for chunks in merged.chunks), sum(map(len, merged.chunks))
    )


def _merged(taken: Taken) -> _Merged:
    closed = decode(taken.closed)
    before = HeadSamples(
        taken.closed.series_ids, taken.closed.counts, closed.times_us, closed.values
    )
    samples = HeadSamples.joined([before, taken.head])
    chunks: list[Chunks] = []
    buckets: list[Buckets] = []
    for part in samples.by_series(BLOCK_SAMPLES):
        latest = latest_by_shard(part)
        chunks.append(encode(latest))
        buckets.append(Buckets.of(latest, RESOLUTIONS[-1].bucket_us))
    return _Merged(chunks, Buckets.joined(buckets))
