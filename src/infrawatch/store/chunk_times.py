"""When the samples of a chunk were taken: a regular grid, and how far each one lies from it.

    time = start + step * (i + skipped) + shift + tick * late

`skipped` counts the places of the grid left empty before sample i. `late` is how many ticks the
sample came after its place on the grid as moved by `shift` (<= 0: the most punctual is 0 late).
Both are stored as one number, `skipped << late_bits | late`, so that a missed scrape costs a bit or
two a sample instead of making every later offset a large one.
"""

from typing import NamedTuple

import numpy as np

from infrawatch.model.samples import Int64s
from infrawatch.store.packing import Widths, pack, unpack, widths_for
from infrawatch.store.ragged import Runs

_MAX_BITS = 62
_IMPOSSIBLE = 99


class ChunkTimes(NamedTuple):
    """An entry for each chunk; `words` are those of all chunks, in order.

    A chunk that keeps to its grid has no words, and nothing but zeros beside its step.
    """

    steps_us: Int64s
    ticks_us: Int64s
    shifts_us: Int64s
    late_bits: Widths
    widths: Widths
    words: Int64s


class _Grid(NamedTuple):
    """A way to lay a grid under each run, in ticks; `numbers` have `bits` bits or fewer."""

    steps: Int64s
    shifts: Int64s
    late_bits: Widths
    bits: Widths
    numbers: Int64s


def encode_times(times_us: Int64s, runs: Runs) -> ChunkTimes:
    """Find each run's grid. Within a run times ascend and lie less than 2^40 µs apart."""
    steps = np.zeros(len(runs.starts), np.int64)
    several = runs.counts > 1
    seconds = runs.starts[several] + 1
    steps[several] = times_us[seconds] - times_us[seconds - 1]
    is_off = np.zeros(len(times_us), np.bool_)
    np.not_equal(np.diff(times_us), runs.spread(steps)[1:], out=is_off[1:])
    is_off[runs.starts] = False
    uneven = np.flatnonzero(runs.has_any(is_off))
    zeros, no_bits = np.zeros_like(steps), np.zeros(len(steps), np.int16)
    even = ChunkTimes(steps, zeros, zeros, no_bits, no_bits, np.empty(0, np.int64))
    if uneven.size == 0:
        return even
    some = runs.picked(uneven)
    fitted = _fitted(times_us[some.positions()], Runs.of(some.counts))
    merged = [field.copy() for field in even[:-1]]
    for field, fitted_field in zip(merged, fitted, strict=False):
        field[uneven] = fitted_field
    return ChunkTimes(*merged, words=fitted.words)


def decode_times(times: ChunkTimes, starts_us: Int64s, counts: Int64s) -> Int64s:
    """The times of all samples, chunk by chunk."""
    runs = Runs.of(counts)
    times_us = runs.spread(starts_us) + runs.spread(times.steps_us) * runs.indexes()
    uneven = np.flatnonzero(times.widths)
    if uneven.size:
        some = Runs.of(counts[uneven])
        numbers = unpack(times.words, counts[uneven], times.widths[uneven])
        late_bits = some.spread(times.late_bits[uneven])
        offsets = some.spread(times.steps_us[uneven]) * (numbers >> late_bits)
        offsets += some.spread(times.ticks_us[uneven]) * (numbers & (np.int64(1) << late_bits) - 1)
        offsets += some.spread(times.shifts_us[uneven])
        times_us[runs.picked(uneven).positions()] += offsets
    return times_us


def _fitted(times_us: Int64s, runs: Runs) -> ChunkTimes:
    elapsed_us = times_us - runs.spread(times_us[runs.starts])
    ticks = runs.divisors(elapsed_us)
    elapsed = elapsed_us // runs.spread(ticks)
    plain = _grid(elapsed, runs.indexes(), runs)
    skipping = _grid(elapsed, _places(elapsed, runs), runs)
    is_better = skipping.bits < plain.bits
    steps, shifts, late_bits = (
        np.where(is_better, one, other) for one, other in zip(skipping[:3], plain[:3], strict=True)
    )
    numbers = np.where(runs.spread(is_better), skipping.numbers, plain.numbers)
    widths = widths_for(runs.largest(numbers))
    words = pack(numbers, runs, widths)
    return ChunkTimes(steps * ticks, ticks, shifts * ticks, late_bits, widths, words)


def _places(elapsed: Int64s, runs: Runs) -> Int64s:
    """Which place of its run's grid each sample is nearest to, when places may stay empty."""
    gaps = np.diff(elapsed, prepend=0)
    gaps[runs.starts] = gaps[runs.starts + 1]
    # The typical gap is the median of a few: a sort of all of them would cost more than the rest.
    some = np.sort(gaps[runs.probes()], axis=1)
    typical = some[:, some.shape[1] // 2 - 1]
    moves = np.rint(gaps / runs.spread(typical)).astype(np.int64)
    places = np.cumsum(moves)
    return places - runs.spread(places[runs.starts])


def _grid(elapsed: Int64s, places: Int64s, runs: Runs) -> _Grid:
    lasts = runs.lasts
    steps = np.rint(elapsed[lasts] / np.maximum(places[lasts], 1)).astype(np.int64)
    offsets = elapsed - places * runs.spread(steps)
    shifts = runs.least(offsets)
    late_bits = _bit_lengths(runs.largest(offsets) - shifts)
    skipped = places - runs.indexes()
    bits = late_bits + _bit_lengths(runs.largest(skipped))
    # Samples so close together that two share a place cannot be told apart by what they skipped.
    bits[(runs.least(skipped) < 0) | (bits > _MAX_BITS)] = _IMPOSSIBLE
    numbers = skipped << runs.spread(late_bits) | (offsets - runs.spread(shifts))
    return _Grid(steps, shifts, late_bits, bits, numbers)


def _bit_lengths(numbers: Int64s) -> Widths:
    """How many bits numbers from 0 to 2^53 have."""
    return np.frexp(numbers)[1].astype(np.int16)
