"""Vectorised parsing of decimal numbers anywhere in a text, eight characters at a time.

The characters before the end of each number are gathered into 64-bit words, the first character in
the lowest byte. So a few operations on arrays of words check and convert all digits of all numbers.
"""

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.decoding.numbers import read_array
from infrawatch.ingest.protocols.influx.pieces import gather
from infrawatch.model.samples import Float64s, Positions

Words = NDArray[np.uint64]

_WORD = 8
_VALUE_WIDTH = 2 * _WORD
"""Longer numbers, and those with an exponent, are parsed one by one."""


def _of_bytes(byte: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([byte] * _WORD), "little"))


_ZEROS, _TO_HIGH_BIT, _HIGH_BITS = _of_bytes(ord("0")), _of_bytes(128 - 10), _of_bytes(128)
_POINT = ord(".") ^ ord("0")
_EXACT = 2**53
"""All smaller integers are float64."""

_LAST = np.tri(_VALUE_WIDTH + 1, _VALUE_WIDTH, -1, np.uint8)[:, ::-1] * np.uint8(255)
_KEPT = np.ascontiguousarray(_LAST).view("<u8")
"""Masks that keep the last 0 to 16 characters of two words."""

_DIVISORS = np.array([1, *(10**place for place in range(_VALUE_WIDTH))], np.float64)
_SHIFTS = np.append(0.0, 9 * _DIVISORS[1:])
_PLACES = np.append(np.inf, 10 * _DIVISORS[1:])
"""By the place of the point, from the right and from 1; 0 without a point."""


def read_integers(text: bytes, ends: Positions, width: int) -> Words | None:
    """Read the `width` digits before each end, at most 19; None if there is anything but digits."""
    words = _gather(text, ends, -(-width // _WORD))
    words[:, 0] &= _KEPT[(width - 1) % _WORD + 1, -1]
    return None if _find_others(words).any() else _to_integers(words)


def read_decimals(text: bytes, starts: Positions, ends: Positions) -> Float64s | None:
    """Read numbers that are at least one character long, each correctly rounded.

    Returns None if there is anything but numbers of JSON and decimals of at most 15 characters,
    which may begin with zeros, and with or after a point: `-1.5e-7`, `007`, `1.`, `.5`.
    """
    is_negative = np.frombuffer(text, np.uint8)[starts] == ord("-")
    lengths = ends - starts - is_negative
    words = _gather(text, ends, _VALUE_WIDTH // _WORD)
    words &= _KEPT.take(lengths, axis=0, mode="clip")
    points = _take_points(words)
    if points is None:
        return None
    integers = _to_integers(words)
    others = _find_others(words)
    is_odd = (others[:, 0] | others[:, 1]) != 0
    is_odd |= (integers >= _EXACT) | (lengths > _VALUE_WIDTH) | (lengths <= (points != 0))
    # The point counts as a digit 0. Without it, what is left of it moves by one place to the right.
    digits = integers.astype(np.float64)
    digits -= np.floor(digits / _PLACES.take(points)) * _SHIFTS.take(points)
    values: Float64s = digits / _DIVISORS.take(points)
    np.negative(values, out=values, where=is_negative)
    odd = np.flatnonzero(is_odd)
    if len(odd):
        spans = zip(starts[odd].tolist(), ends[odd].tolist(), strict=True)
        texts = b",".join([text[start:end] for start, end in spans])
        read = read_array(b"[" + texts + b"]") if texts.split() == [texts] else None
        if read is None or len(read) != len(odd):
            return None
        values[odd] = read
    return values


def _gather(text: bytes, ends: Positions, count: int) -> Words:
    """Gather the characters before each end as rows of words, in which digits are 0 to 9."""
    width = count * _WORD
    words: Words = gather(text, ends - width, width).view("<u8").reshape(-1, count)
    words ^= _ZEROS
    return words


def _take_points(words: Words) -> Positions | None:
    """Replace points by zeros; return the place of each row's point, from the right and from 1.

    Returns None if a row has more than one.
    """
    characters = words.view(np.uint8).reshape(-1)
    points = np.flatnonzero(characters == _POINT)
    rows, columns = points >> 4, points & 15
    if (rows[1:] == rows[:-1]).any():
        return None
    characters[points] = 0
    places = np.zeros(len(words), np.intp)
    places[rows] = _VALUE_WIDTH - columns
    return places


def _find_others(words: Words) -> Words:
    """Return words that are zero where all characters are digits."""
    # Adding sets the high bit of 10 to 127; a larger one has it, so carrying does no harm.
    return ((words + _TO_HIGH_BIT) | words) & _HIGH_BITS


def _to_integers(words: Words) -> Words:
    """Convert rows of digits to integers.

    Source: Daniel Lemire, "Quickly parsing eight digits": neighbours are added up in parallel.
    """
    eights = words * np.uint64(10 * 2**8 + 1) >> np.uint64(8) & np.uint64(0x00FF00FF00FF00FF)
    eights = eights * np.uint64(100 * 2**16 + 1) >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)
    eights = eights * np.uint64(10_000 * 2**32 + 1) >> np.uint64(32)
    integers: Words = eights[:, 0]
    for column in range(1, words.shape[1]):
        integers = integers * np.uint64(10**_WORD) + eights[:, column]
    return integers
