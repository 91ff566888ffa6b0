"""The values of a chunk: scaled to integers and packed as differences, or raw.

    value = (base + slope * i + factor * sum(packed[0..i])) / 10 ^ exponent

`slope` is the least difference between neighbours, so packed numbers are never negative. Arithmetic
is on integers except for the final division of two doubles, which IEEE 754 rounds correctly. A
chunk is packed only if all its values are restored bit for bit, and is raw otherwise.
"""

from typing import NamedTuple

import numpy as np

from infrawatch.model.samples import Bools, Float64s, Int64s
from infrawatch.store.columns.packing import bits_for, pack, unpack
from infrawatch.store.columns.ragged import Runs

RAW = -1
"""The exponent of a chunk whose values are stored raw."""

MAX_EXPONENT = 22
"""10^22 is the largest power of ten that a double represents exactly."""

POWERS = np.array([float(f"1e{exponent}") for exponent in range(MAX_EXPONENT + 1)])
"""Powers of ten, by exponent."""

_EXACT_BELOW = 2.0**53
"""Doubles represent every integer below this exactly."""

_SUMMED_BELOW = 2**31
"""PostgreSQL sums `integer` into `bigint`, but `bigint` into the far slower `numeric`."""


class ChunkValues(NamedTuple):
    """One entry per chunk, named like its column; `deltas` has the words of all chunks, in order.

    A chunk whose exponent is `RAW` has its values in `raw`, which is concatenated likewise, and
    zeros in the other columns. A chunk whose values lie on a straight line has no words.
    """

    exponent: Int64s
    factor: Int64s
    base: Int64s
    slope: Int64s
    delta_bits: Int64s
    deltas: Int64s
    raw: Float64s


class Scaled(NamedTuple):
    """Runs of values, each times a power of ten, as integers.

    Division restores every bit of a run; if no exponent does, it is `RAW`, and the integers are 0.
    """

    runs: Runs
    integers: Int64s
    exponents: Int64s


def encode_values(values: Float64s, scaled: Scaled) -> ChunkValues:
    """Encode each run, of fewer than 512 values: packed if that is lossless, raw otherwise.

    Differences are below 2^54, so even 511 times the slope fits PostgreSQL's `bigint`, and so does
    every other step of decoding.
    """
    runs = scaled.runs
    deltas, slopes = _deltas(scaled.integers, runs)
    factors = runs.divide(deltas)
    bases = scaled.integers[runs.starts]
    largest = runs.largest(deltas)
    exponents = np.where(largest < _SUMMED_BELOW, scaled.exponents, RAW)
    is_raw = exponents == RAW
    for column in (factors, bases, slopes, largest):
        column[is_raw] = 0
    bits = bits_for(largest)
    words = pack(deltas, runs, bits)
    raw = values[runs.picked(is_raw).positions()]
    return ChunkValues(exponents, factors, bases, slopes, bits, words, raw)


def decode_values(chunks: ChunkValues, counts: Int64s) -> Float64s:
    """Decode the values of all samples, chunk by chunk."""
    runs = Runs.of(counts)
    integers = unpack(chunks.deltas, counts, chunks.delta_bits)
    np.cumsum(integers, out=integers)
    # Constants of a chunk are added in one step. Intermediate overflow is modulo 2^64, so it
    # cancels out.
    constants = chunks.base - chunks.factor * integers[runs.starts] - chunks.slope * runs.starts
    if (chunks.factor > 1).any():
        integers *= runs.spread(chunks.factor)
    integers += runs.spread(chunks.slope) * np.arange(len(integers))
    integers += runs.spread(constants)
    values: Float64s = integers / runs.spread(POWERS[chunks.exponent])
    if len(chunks.raw) > 0:
        values[runs.picked(chunks.exponent == RAW).positions()] = chunks.raw
    return values


def to_integers(values: Float64s, runs: Runs) -> Scaled:
    """Multiply each run by the power of ten that makes integers of its values, if there is one."""
    probes = runs.probes()
    exponents = _decimals(values[probes.reshape(-1)]).reshape(probes.shape).max(axis=1)
    scaled = np.empty(len(values), np.int64)
    which = np.flatnonzero(exponents <= MAX_EXPONENT)
    while which.size:
        some = runs.picked(which)
        places, tried = some.places(), Runs.of(some.counts)
        among = values[places]
        scaled[places], is_exact = _times_power(among, some.spread(POWERS[exponents[which]]))
        inexact = np.flatnonzero(~is_exact)
        if inexact.size == 0:
            break
        failed = np.flatnonzero(tried.has_any(~is_exact))
        firsts = inexact[np.searchsorted(inexact, tried.starts[failed])]
        which = which[failed]
        exponents[which] = np.maximum(_decimals(among[firsts]), exponents[which] + 1)
        which = which[exponents[which] <= MAX_EXPONENT]
    is_raw = exponents > MAX_EXPONENT
    exponents[is_raw] = RAW
    scaled[runs.picked(is_raw).positions()] = 0
    return Scaled(runs, scaled, exponents)


def _decimals(values: Float64s) -> Int64s:
    """Return the least exponent that makes each value an exact integer, or MAX_EXPONENT + 1."""
    exponents = np.full(len(values), MAX_EXPONENT + 1, np.int64)
    left = np.arange(len(values))
    for exponent in range(MAX_EXPONENT + 1):
        _, is_exact = _times_power(values[left], POWERS[exponent])
        exponents[left[is_exact]] = exponent
        left = left[~is_exact]
        if left.size == 0:
            break
    return exponents


def _times_power(values: Float64s, powers: Float64s | np.float64) -> tuple[Int64s, Bools]:
    """Return the values times powers of ten, and which of them division restores bit for bit."""
    with np.errstate(over="ignore", invalid="ignore"):
        integers = values * powers
        np.rint(integers, out=integers)
        integers += 0.0  # an integer has no negative zero
        is_exact: Bools = (integers / powers).view(np.int64) == values.view(np.int64)
        is_exact &= np.abs(integers) < _EXACT_BELOW
        return integers.astype(np.int64), is_exact


def _deltas(scaled: Int64s, runs: Runs) -> tuple[Int64s, Int64s]:
    """Return the difference of each number from its predecessor less the slope, and the slopes.

    The delta of a run's first number is 0.
    """
    deltas = np.empty_like(scaled)
    np.subtract(scaled[1:], scaled[:-1], out=deltas[1:])
    deltas[runs.starts] = np.where(runs.counts > 1, deltas[runs.seconds], 0)
    slopes = runs.least(deltas)
    deltas -= runs.spread(slopes)
    deltas[runs.starts] = 0
    return deltas, slopes
