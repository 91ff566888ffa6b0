"""Chunks: consecutive samples of one series within two hours, delta-encoded, bit for bit."""

from dataclasses import dataclass

import numpy as np

from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import US
from infrawatch.store.chunk_times import ChunkTimes, decode_times, encode_times
from infrawatch.store.chunk_values import ChunkValues, decode_values, encode_values
from infrawatch.store.ragged import Runs

WINDOW_US = 2 * 3600 * US
"""Windows begin at multiples of this since the epoch, so that none spans midnight."""

MAX_SAMPLES = 480
"""Two hours of a sample every 15 s. With 8 bytes a value and 8 a time, the worst there is, a row of
so many fits PostgreSQL's page of 8 kB. So no array is ever compressed or stored out of line, which
would have to be undone for every sample that SQL takes out of it."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """Any number of chunks; all columns but the words and raw values have an entry for each."""

    series_ids: Int64s
    starts_us: Int64s
    ends_us: Int64s
    counts: Int64s
    times: ChunkTimes
    values: ChunkValues

    def __len__(self) -> int:
        return len(self.series_ids)


def encode(columns: Columns) -> Chunks:
    """Cut samples, sorted by (series, time) and unique, into a chunk for each series and window.

    A window of more than `MAX_SAMPLES` becomes several chunks of about the same size. They come in
    the order of the samples; `decode` gives back the same samples, every bit of them.
    """
    runs = _cuts(columns)
    return Chunks(
        series_ids=columns.series_ids[runs.starts],
        starts_us=columns.times_us[runs.starts],
        ends_us=columns.times_us[runs.lasts],
        counts=runs.counts,
        times=encode_times(columns.times_us, runs),
        values=encode_values(columns.values, runs),
    )


def decode(chunks: Chunks) -> Columns:
    """The samples of all chunks, chunk by chunk in the order given, each in order of time."""
    return Columns(
        np.repeat(chunks.series_ids, chunks.counts),
        decode_times(chunks.times, chunks.starts_us, chunks.counts),
        decode_values(chunks.values, chunks.counts),
    )


def _cuts(columns: Columns) -> Runs:
    """Where a series or a window begins, and in between if there is too much for one chunk."""
    windows = columns.times_us // WINDOW_US
    is_first = np.ones(len(columns), np.bool_)
    np.not_equal(columns.series_ids[1:], columns.series_ids[:-1], out=is_first[1:])
    is_first[1:] |= windows[1:] != windows[:-1]
    runs = Runs.beginning(is_first)
    if runs.counts.max(initial=0) <= MAX_SAMPLES:
        return runs
    pieces = -(-runs.counts // MAX_SAMPLES)
    is_first |= runs.indexes() % runs.spread(-(-runs.counts // pieces)) == 0
    return Runs.beginning(is_first)
