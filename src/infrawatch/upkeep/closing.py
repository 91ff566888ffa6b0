"""Closing windows: all their samples become chunks and buckets, replacing earlier ones."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import latest_by_shard
from infrawatch.store.chunks.codec import (
    BLOCK_SAMPLES,
    Chunks,
    decode,
    encode_scaled,
    to_pieces,
)
from infrawatch.store.chunks.head_rows import HeadSamples
from infrawatch.store.chunks.merging import Blocks, MergeRepository, Taken, Windows
from infrawatch.store.chunks.repository import ChunkRepository
from infrawatch.store.chunks.values import to_integers
from infrawatch.store.partitions import CHUNKS, PartitionRepository
from infrawatch.store.rollups.buckets import FIVE_MINUTES, Buckets
from infrawatch.upkeep.cut_samples import CutSamples
from infrawatch.upkeep.full_windows import FullWindows
from infrawatch.upkeep.rollups import roll_up


class Compacted(NamedTuple):
    """What a pass has done; samples that stay in the head are in no chunk yet."""

    samples: int
    chunks: int

    def plus(self, more: "Compacted") -> "Compacted":
        return Compacted(self.samples + more.samples, self.chunks + more.chunks)


class ClosedWindows(NamedTuple):
    """The chunks of some windows, and their buckets in the finest resolution, by series."""

    chunks: list[Chunks]
    buckets: Buckets

    @classmethod
    def of(cls, parts: Iterable[CutSamples]) -> Self:
        """Encode the samples."""
        chunks: list[Chunks] = []
        buckets: list[Buckets] = []
        for samples, by_bucket, windows, _ in parts:
            scaled = to_integers(samples.values, to_pieces(windows))
            chunks.append(encode_scaled(samples, scaled))
            buckets.append(Buckets.of_scaled(samples, by_bucket, scaled, FIVE_MINUTES.bucket_us))
        return cls(chunks, Buckets.joined(buckets))

    @classmethod
    def joined(cls, parts: "Sequence[ClosedWindows]") -> Self:
        """Concatenate the parts, which may hold different windows of the same series."""
        chunks = [chunks for part in parts for chunks in part.chunks]
        return cls(chunks, Buckets.joined([part.buckets for part in parts]).by_series())


class ArrivingWindows(NamedTuple):
    """Arriving samples of windows of blocks, encoded in case nothing else is stored of the windows.

    That is the usual case. Encoding the samples at once, while they are in the CPU's caches, is
    cheaper than keeping them until it is known.
    """

    blocks: Blocks
    samples: HeadSamples
    closed: ClosedWindows

    @classmethod
    def of(cls, full: FullWindows) -> Self:
        return cls(full.blocks, full.to_runs(), ClosedWindows.of([full.cut]))


async def close(
    connection: AsyncConnection, blocks: Blocks, arriving: Sequence[ArrivingWindows] = ()
) -> Compacted:
    """Move windows from the head into chunks, with the arriving samples, in the open transaction.

    Existing chunks of the same series and windows are merged. A window moves as a whole: samples
    left in the head would take precedence over those moved.
    """
    samples = [one.samples for one in arriving]
    taken = await MergeRepository(connection).take(blocks, samples)
    if len(taken.closed) > 0 or len(taken.head.counts) > 0:
        closed = await asyncio.to_thread(_merged, taken, samples)
    else:
        closed = await asyncio.to_thread(ClosedWindows.joined, [one.closed for one in arriving])
    days = {start_at.date() for start_at in blocks.starts_at}
    await PartitionRepository(connection).make(CHUNKS, days)
    await ChunkRepository(connection).append(closed.chunks)
    had_samples = Windows(taken.closed.series_ids, taken.closed.starts_us)
    await roll_up(connection, closed.buckets, taken.windows, had_samples)
    return Compacted(
        sum(int(chunks.counts.sum()) for chunks in closed.chunks), sum(map(len, closed.chunks))
    )


def _merged(taken: Taken, arriving: Sequence[HeadSamples]) -> ClosedWindows:
    closed = decode(taken.closed)
    before = HeadSamples(
        taken.closed.series_ids, taken.closed.counts, closed.times_us, closed.values
    )
    samples = HeadSamples.joined([before, taken.head, *arriving])
    blocks = samples.by_series(BLOCK_SAMPLES)
    return ClosedWindows.of(CutSamples.of(latest_by_shard(block)) for block in blocks)
