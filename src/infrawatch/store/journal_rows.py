"""Rows of the journal: samples of one shard in order of arrival, encoded as bits."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Bools, Columns, Float64s, Int64s, Positions
from infrawatch.store.columns import copy
from infrawatch.store.columns.ragged import Runs, are_first
from infrawatch.store.columns.varbits import are_odd, from_bits

Sent = NDArray[np.signedinteger]
"""64-bit big-endian numbers, as sent to PostgreSQL."""

ROW_SAMPLES = 320
"""Samples of 24 bytes each, so that a row with its other columns fits an 8 kB page."""

_SAMPLE_BYTES, _RUN_BYTES = 8, 32
"""The size of each sample of a run, and of the run itself."""

_ROW_BYTES = 24 * ROW_SAMPLES

_BROKEN_RUNS = 2
"""Runs that the ends of a row may cut in two."""

_IS_RUN = np.int64(-(2**63))
"""Set in the id of a run: the next word holds the run's offset in the row and its length."""

_COUNT_BITS = 32


def from_packed(*rows: Sequence[bytes]) -> Columns:
    """Decode the samples of one or more rows, given the three columns of each.

    What PostgreSQL has concatenated of several rows counts as one.
    """
    words, times, values = (from_bits(*column) for column in zip(*rows, strict=True))
    times += copy.PG_EPOCH_US
    is_run = words < 0
    if not is_run.any():
        return Columns(words, times, values.view(np.float64))
    is_head = np.append(True, ~is_run[:-1])  # a value
    heads, is_run = np.flatnonzero(is_head), is_run[is_head]
    seconds = heads[is_run] + 1
    counts, steps_us = np.ones(len(heads), np.int64), np.zeros(len(heads), np.int64)
    counts[is_run] = words[seconds] & (1 << _COUNT_BITS) - 1
    steps_us[is_run] = times[seconds] - copy.PG_EPOCH_US
    runs = Runs.of(counts)
    times_us = runs.spread(times[heads] - steps_us * runs.starts)
    times_us += runs.spread(steps_us) * np.arange(runs.total)
    return Columns(runs.spread(words[heads] & ~_IS_RUN), times_us, values.view(np.float64))


class Group(NamedTuple):
    """The arguments of `append_group`: rows of one shard each, and the samples of all rows.

    Samples of a shard keep their order of arrival.
    """

    shards: list[int]
    firsts: list[int]
    starts: list[int]
    counts: list[int]
    word_starts: list[int]
    words: list[int]
    earliest: list[int]
    latest: list[int]
    odds: list[int | None]
    series_ids: Sent
    times: Sent
    values: Sent
    odd_values: list[float]

    @classmethod
    def of(cls, columns: Columns) -> Self:
        samples = _SampleRuns.of(columns)
        shards, rows, are_runs = _cut(samples)
        samples = samples.cut(rows, are_runs)
        ids, times, places = _to_words(samples, rows, are_runs)
        heads = np.searchsorted(samples.runs.starts, rows.starts)
        ends = samples.times + samples.steps * (samples.runs.counts - 1)
        word_starts = places[heads]
        odds, odd_values = _find_odd(samples.values, rows)
        return cls(
            shards=shards.tolist(),
            firsts=(rows.starts - samples.of_shards.starts[shards]).tolist(),
            starts=rows.starts.tolist(),
            counts=rows.counts.tolist(),
            word_starts=word_starts.tolist(),
            words=Runs.at(word_starts, len(ids)).counts.tolist(),
            earliest=np.minimum.reduceat(np.minimum(samples.times, ends), heads).tolist(),
            latest=np.maximum.reduceat(np.maximum(samples.times, ends), heads).tolist(),
            odds=odds,
            series_ids=ids.astype(">i8"),
            times=times.astype(">i8"),
            values=samples.values.view(np.int64).astype(">i8"),
            odd_values=odd_values,
        )


class _SampleRuns(NamedTuple):
    """Samples by shard, in runs: run i is of one series, and its samples are `steps[i]` apart.

    `times` holds the time of each run's first sample; `values` holds the value of every sample.
    """

    of_shards: Runs
    runs: Runs
    series_ids: Int64s
    times: Int64s
    steps: Int64s
    values: Float64s

    @property
    def are_single(self) -> bool:
        """Whether every run is a single sample."""
        return len(self.runs.starts) == len(self.values)

    @classmethod
    def of(cls, columns: Columns) -> Self:
        runs = _find_runs(columns)
        if runs is None:
            order, of_shards = _by_shard(columns.series_ids)
            series_ids, times_us, values = columns.picked(order)
            runs, steps = Runs(np.arange(len(order)), np.ones_like(order)), np.zeros_like(order)
        else:
            heads = columns.picked(runs.starts)
            seconds_us = columns.times_us[runs.seconds]
            order, of_shards = _by_shard(heads.series_ids, runs.counts)
            runs, steps = runs.picked(order), (seconds_us - heads.times_us)[order]
            series_ids, times_us, _ = heads.picked(order)
            values, runs = runs.gathered(columns.values), Runs.of(runs.counts)
        return cls(of_shards, runs, series_ids, times_us - copy.PG_EPOCH_US, steps, values)

    def cut(self, rows: Runs, are_runs: Bools) -> Self:
        """Split runs at the ends of rows; in rows not stored as runs, into single samples."""
        if self.are_single:
            return self
        is_head = np.zeros(len(self.values), np.bool_)
        is_head[self.runs.starts] = is_head[rows.starts] = True
        is_head[rows.picked(~are_runs).positions()] = True
        runs = Runs.beginning(is_head)
        run_of = np.searchsorted(self.runs.starts, runs.starts, "right") - 1
        steps = self.steps[run_of]
        times = self.times[run_of] + steps * (runs.starts - self.runs.starts[run_of])
        return self._replace(
            runs=runs, series_ids=self.series_ids[run_of], times=times, steps=steps
        )


def _find_runs(columns: Columns) -> Runs | None:
    """Find runs of evenly spaced samples of one series; None if most samples have no neighbour."""
    series_ids, times_us, _ = columns
    is_first = are_first(series_ids)
    if 2 * np.count_nonzero(is_first) >= len(columns):
        return None
    steps_us = times_us[1:] - times_us[:-1]
    is_first[2:] |= (steps_us[1:] != steps_us[:-1]) & ~is_first[1:-1]
    return Runs.beginning(is_first)


def _by_shard(series_ids: Int64s, counts: Int64s | None = None) -> tuple[Positions, Runs]:
    """Return the stable order by shard, and the samples of each shard as runs."""
    shards = (series_ids & (SHARDS - 1)).astype(np.int16)
    # A stable sort of 16-bit integers is a radix sort: linear.
    order = np.argsort(shards, kind="stable")
    return order, Runs.of(np.bincount(shards, counts, SHARDS).astype(np.int64, copy=False))


def _cut(samples: _SampleRuns) -> tuple[Int64s, Runs, Bools]:
    """Return the shard of each row, rows that fit a page, and whether each is stored as runs.

    A row is stored as runs where that is shorter; readers tell the two forms apart by length.
    """
    if samples.are_single:
        rows, shards = samples.of_shards.cut(np.full(SHARDS, ROW_SAMPLES))
        return shards, rows, np.zeros(len(shards), np.bool_)
    pieces, shards = samples.of_shards.cut(_fitting(samples))
    runs = samples.runs.overlapped_by(pieces)
    are_runs = _RUN_BYTES * runs + _SAMPLE_BYTES * pieces.counts <= _ROW_BYTES
    are_runs &= 2 * runs < pieces.counts
    if are_runs.all():  # usual
        return shards, pieces, are_runs
    rows, piece_of = pieces.cut(np.where(are_runs, pieces.counts, ROW_SAMPLES))
    return shards[piece_of], rows, are_runs[piece_of]


def _fitting(samples: _SampleRuns) -> Int64s:
    """Return how many samples of each shard fit a row, if its runs are of about equal length."""
    counts, runs = samples.of_shards.counts, samples.runs.overlapped_by(samples.of_shards)
    # Shards without samples need no room: the result for them does not matter.
    bytes_per_shard = np.maximum(_SAMPLE_BYTES * counts + _RUN_BYTES * runs, 1)
    fitting: Int64s = (_ROW_BYTES - _BROKEN_RUNS * _RUN_BYTES) * counts // bytes_per_shard
    return np.maximum(fitting, ROW_SAMPLES)


def _to_words(samples: _SampleRuns, rows: Runs, are_runs: Bools) -> tuple[Int64s, Int64s, Int64s]:
    """Return the words of the first two columns, and where the words of each run begin."""
    starts, counts = samples.runs
    if not are_runs.any():
        return samples.series_ids, samples.times, starts
    row_of = np.searchsorted(rows.starts, starts, "right") - 1
    is_run = are_runs[row_of]
    words = Runs.of(1 + is_run.astype(np.int64))
    ids, times = np.empty((2, words.total), np.int64)
    ids[words.starts] = samples.series_ids | np.where(is_run, _IS_RUN, 0)
    times[words.starts] = samples.times
    seconds = words.starts[is_run] + 1
    ids[seconds] = ((starts - rows.starts[row_of]) << _COUNT_BITS | counts)[is_run]
    times[seconds] = samples.steps[is_run]
    return ids, times, words.starts


def _find_odd(values: Float64s, rows: Runs) -> tuple[list[int | None], list[float]]:
    """Return the values of rows that have an odd one, and where each row's begin in them, from 1.

    The latter come first, and are None for the other rows.
    """
    is_odd = are_odd(values.view(np.int64))
    if not is_odd.any():
        return [None] * len(rows.counts), []
    has_odd = rows.has_any(is_odd)
    some = rows.picked(has_odd)
    places = iter((Runs.of(some.counts).starts + 1).tolist())
    odds = [next(places) if one else None for one in has_odd.tolist()]
    return odds, values[some.positions()].tolist()
