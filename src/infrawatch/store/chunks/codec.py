"""Chunks: consecutive samples of one series within two hours, delta-encoded, bit for bit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Bools, Columns, Int64s, Positions, series_bounds
from infrawatch.model.timerange import US, TimeRange
from infrawatch.store.chunks.times import ChunkTimes, decode_times, encode_times
from infrawatch.store.chunks.values import (
    RAW,
    ChunkValues,
    Scaled,
    decode_values,
    encode_values,
    to_integers,
)
from infrawatch.store.columns.packing import words_in
from infrawatch.store.columns.ragged import Runs

WINDOW_US = 2 * 3600 * US
"""Windows begin at multiples of this since the epoch, so none spans midnight UTC."""

MAX_SAMPLES = 480
"""Two hours of a sample every 15 s. Even in the worst case, 8 bytes per value and 8 per time, a row
fits PostgreSQL's 8 kB page. So arrays are never compressed or stored out of line, which PostgreSQL
would have to undo for every sample that SQL extracts."""

BLOCK_SAMPLES = 1 << 16
"""Samples processed at a time, so that numpy's temporaries stay in the CPU's caches and in memory
the process already has: a fresh page costs more than the work done on it."""

_Numbers = NDArray[Any]
_Parts = Iterable[tuple[_Numbers, ...]]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Any number of chunks; columns have one entry per chunk, except for words and raw values."""

    series_ids: Int64s
    starts_us: Int64s
    ends_us: Int64s
    counts: Int64s
    times: ChunkTimes
    values: ChunkValues

    def __len__(self) -> int:
        return len(self.series_ids)

    def are_within(self, span: TimeRange) -> Bools:
        """Which chunks lie entirely in the span."""
        is_within: Bools = (self.starts_us >= span.start_us) & (self.ends_us < span.end_us)
        return is_within


def encode(columns: Columns) -> Chunks:
    """Encode samples, unique and sorted by (series, time), as one chunk per series and window.

    A window of more than `MAX_SAMPLES` becomes several chunks of about the same size. Chunks keep
    the order of the samples; `decode` restores the samples bit for bit.
    """
    return encode_scaled(columns, to_integers(columns.values, cut(columns)))


def encode_scaled(columns: Columns, scaled: Scaled) -> Chunks:
    """Do the same as `encode`, given the integers of the values in the runs of `cut`."""
    runs = scaled.runs
    return Chunks(
        series_ids=columns.series_ids[runs.starts],
        starts_us=columns.times_us[runs.starts],
        ends_us=columns.times_us[runs.lasts],
        counts=runs.counts,
        times=encode_times(columns.times_us, runs),
        values=encode_values(columns.values, scaled),
    )


def decode(chunks: Chunks, span: TimeRange | None = None) -> Columns:
    """Decode all chunks in the order given, each in order of time.

    With a span, return only the samples in it.
    """
    samples = Columns(
        np.repeat(chunks.series_ids, chunks.counts),
        decode_times(chunks.times, chunks.starts_us, chunks.counts),
        decode_values(chunks.values, chunks.counts),
    )
    if span is None or chunks.are_within(span).all():
        return samples
    return samples.within(span)


def blocks(chunks: Chunks) -> Iterator[Chunks]:
    """Split the chunks between series, in order, into parts of about `BLOCK_SAMPLES`.

    No part is empty. Chunks not sorted by series stay together.
    """
    if len(chunks) == 0:
        return iter(())
    ids = chunks.series_ids
    if (ids[1:] < ids[:-1]).any():
        return iter((chunks,))
    ends = series_bounds(ids)[1:]
    samples = np.cumsum(chunks.counts)[ends - 1]
    enough = np.searchsorted(samples, np.arange(BLOCK_SAMPLES, samples[-1], BLOCK_SAMPLES))
    cuts = np.unique(ends[enough])
    return _split(chunks, cuts[cuts < len(chunks)])


def _split(chunks: Chunks, cuts: Positions) -> Iterator[Chunks]:
    if len(cuts) == 0:
        yield chunks
        return
    times, values, counts = chunks.times, chunks.values, chunks.counts

    def split(columns: Iterable[_Numbers], *ragged: tuple[_Numbers, Int64s]) -> _Parts:
        """Split columns of one entry per chunk, and `ragged` ones of given sizes per chunk."""
        even = (np.split(column, cuts) for column in columns)
        uneven = (np.split(some, np.append(0, np.cumsum(sizes))[cuts]) for some, sizes in ragged)
        return zip(*even, *uneven, strict=True)

    raw_counts = np.where(values.exponent == RAW, counts, 0)
    parts = zip(
        split((chunks.series_ids, chunks.starts_us, chunks.ends_us, counts)),
        split(times[:-1], (times.times, words_in(counts, times.time_bits))),
        split(
            values[:-2],
            (values.deltas, words_in(counts, values.delta_bits)),
            (values.raw, raw_counts),
        ),
        strict=True,
    )
    for (ids, starts_us, ends_us, counts), time, value in parts:
        packed = ChunkTimes._make(time), ChunkValues._make(value)
        yield Chunks(ids, starts_us, ends_us, counts, *packed)


def cut(columns: Columns) -> Runs:
    """Cut samples sorted by series into runs of one series and window, to become a chunk each.

    A window of more than `MAX_SAMPLES` becomes several runs of about the same size.
    """
    return to_pieces(Runs.of_equal(columns.series_ids, columns.times_us // WINDOW_US))


def to_pieces(windows: Runs) -> Runs:
    """Cut runs of one series and window into runs that become a chunk each."""
    if windows.counts.max(initial=0) <= MAX_SAMPLES:
        return windows
    pieces = -(-windows.counts // MAX_SAMPLES)
    return windows.cut(-(-windows.counts // pieces))[0]
