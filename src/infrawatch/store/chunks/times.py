"""The times of a chunk: a regular grid, and the distance of each sample from it.

    time = start + step * (i + skipped) + shift + tick * late

`skipped` is the number of empty grid places before sample i. `late` is the number of ticks by which
the sample follows its place on the grid shifted by `shift` (<= 0: the earliest sample is 0 late).
Both are stored as one number, `skipped << late_bits | late`, so that a missed scrape costs a bit or
two per sample instead of making every later offset large.
"""

from typing import NamedTuple

import numpy as np

from infrawatch.model.samples import Int64s
from infrawatch.store.columns.packing import bits_for, pack, unpack
from infrawatch.store.columns.ragged import Runs, scattered

_TOO_MANY = 64
"""More bits than any offset within a window has, so a grid with this value is never chosen."""


class ChunkTimes(NamedTuple):
    """One entry per chunk, named like its column; `times` has the words of all chunks, in order.

    A chunk whose samples lie exactly on its grid has no words, and zeros except for its step.
    """

    step_us: Int64s
    tick_us: Int64s
    shift_us: Int64s
    late_bits: Int64s
    time_bits: Int64s
    times: Int64s


class _Grid(NamedTuple):
    """A grid for each run, in ticks; `numbers`, of at most `bits` bits, remain to be stored."""

    step: Int64s
    shift: Int64s
    late_bits: Int64s
    bits: Int64s
    numbers: Int64s


def encode_times(times_us: Int64s, runs: Runs) -> ChunkTimes:
    """Find each run's grid. Times ascend within a run and span at most a few hours."""
    steps, is_uneven = runs.steps(times_us)
    uneven = np.flatnonzero(is_uneven)
    if not uneven.size:
        zeros = np.zeros(len(steps), np.int64)
        return ChunkTimes(steps, zeros, zeros, zeros, zeros, np.empty(0, np.int64))
    some = runs.picked(uneven)
    fitted = _fitted(times_us[some.places()], Runs.of(some.counts))
    steps[uneven] = fitted.step_us
    others = (scattered(column, uneven, len(steps)) for column in fitted[1:-1])
    return ChunkTimes._make([steps, *others, fitted.times])


def decode_times(chunks: ChunkTimes, starts_us: Int64s, counts: Int64s) -> Int64s:
    """Decode the times of all samples, chunk by chunk."""
    runs = Runs.of(counts)
    # Modulo 2^64, as in decode_values.
    times_us = runs.spread(chunks.step_us) * np.arange(runs.total)
    times_us += runs.spread(starts_us - chunks.step_us * runs.starts)
    uneven = np.flatnonzero(chunks.time_bits)
    if uneven.size:
        some = Runs.of(counts[uneven])
        numbers = unpack(chunks.times, some.counts, chunks.time_bits[uneven])
        late_bits = some.spread(chunks.late_bits[uneven])
        offsets = some.spread(chunks.step_us[uneven]) * (numbers >> late_bits)
        offsets += some.spread(chunks.tick_us[uneven]) * (numbers & (1 << late_bits) - 1)
        offsets += some.spread(chunks.shift_us[uneven])
        times_us[runs.picked(uneven).positions()] += offsets
    return times_us


def _fitted(times_us: Int64s, runs: Runs) -> ChunkTimes:
    elapsed = times_us - runs.spread(times_us[runs.starts])
    ticks = runs.divide(elapsed)
    plain = _grid(elapsed, runs.indexes(), runs)
    skipping = _grid(elapsed, _places(elapsed, runs), runs)
    is_better = skipping.bits < plain.bits
    steps, shifts, late_bits = (
        np.where(is_better, one, other) for one, other in zip(skipping[:3], plain[:3], strict=True)
    )
    numbers = np.where(runs.spread(is_better), skipping.numbers, plain.numbers)
    bits = bits_for(runs.largest(numbers))
    words = pack(numbers, runs, bits)
    return ChunkTimes(steps * ticks, ticks, shifts * ticks, late_bits, bits, words)


def _places(elapsed: Int64s, runs: Runs) -> Int64s:
    """Return the grid place nearest to each sample, if places may be left empty."""
    gaps = np.diff(elapsed, prepend=0)
    gaps[runs.starts] = gaps[runs.starts + 1]
    # The typical gap is the median of a few: sorting all gaps would cost more than everything else.
    some = np.sort(gaps[runs.probes()], axis=1)
    typical = some[:, some.shape[1] // 2 - 1]
    places: Int64s = np.cumsum(np.rint(gaps / runs.spread(typical)).astype(np.int64))
    return places - runs.spread(places[runs.starts])


def _grid(elapsed: Int64s, places: Int64s, runs: Runs) -> _Grid:
    steps = np.rint(elapsed[runs.lasts] / np.maximum(places[runs.lasts], 1)).astype(np.int64)
    offsets = elapsed - places * runs.spread(steps)
    shifts = runs.least(offsets)
    late_bits = _bit_lengths(runs.largest(offsets) - shifts)
    skipped = places - runs.indexes()
    bits = late_bits + _bit_lengths(runs.largest(skipped))
    # If two samples share a place, `skipped` is negative and cannot be stored.
    bits[runs.least(skipped) < 0] = _TOO_MANY
    numbers = skipped << runs.spread(late_bits) | (offsets - runs.spread(shifts))
    return _Grid(steps, shifts, late_bits, bits, numbers)


def _bit_lengths(numbers: Int64s) -> Int64s:
    """Return the bit lengths of numbers from 0 to 2^53."""
    return np.frexp(numbers)[1].astype(np.int64)
