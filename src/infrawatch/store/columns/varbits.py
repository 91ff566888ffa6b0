"""Samples as `bit varying`, 64 bits per number: copied by memcpy, and readable in SQL."""

import struct
from collections.abc import Sequence

import numpy as np

from infrawatch.model.samples import Bools, Int64s
from infrawatch.store.columns import copy

NUMBER_BYTES = 8

_HEAD = struct.Struct(">ii")
"""The header of a `bit varying` field: its length in bytes, then its length in bits."""

_FIELD = struct.Struct(">i")
"""The header of any field: its length."""

_NO_ODD = _FIELD.pack(-1)

_MIN_EXPONENT = 53
"""The least exponent of doubles that SQL can reassemble; 2047 means infinity or NaN."""

_MIN_MAGNITUDE = np.uint64(_MIN_EXPONENT << 53)
_MAGNITUDES = np.uint64((2047 - _MIN_EXPONENT) << 53)
"""The least bits, without the sign, of doubles that SQL can reassemble, and how many there are."""


def to_sent(column: str) -> str:
    """Return SQL that sends a column of bits without the bit count that `varbit_send` prepends."""
    return f"substr(varbit_send({column}), 5)"


def to_bits(numbers: Int64s) -> memoryview:
    """Return the bytes that columns of bits are cut from, eight per number."""
    return memoryview(numbers.astype(">i8").tobytes())


def to_field_header(numbers: int) -> bytes:
    """Return the header of a field of `numbers` numbers."""
    return _HEAD.pack(4 + 8 * numbers, 64 * numbers)


def from_bits(*sent: bytes | None) -> Int64s:
    """Decode columns of bits into the numbers of all of them; NULL decodes to none."""
    # Converted while they are concatenated: one pass instead of two.
    return np.concatenate([np.frombuffer(one or b"", ">i8") for one in sent], dtype=np.int64)


def to_odd(bits: Int64s, starts: Sequence[int]) -> list[bytes]:
    """Encode the column `odd` of rows that begin at `starts`.

    It is NULL, or an array of all doubles of the row if one of them is odd.
    """
    has_odd = np.logical_or.reduceat(are_odd(bits), starts).tolist()
    ends = [*starts[1:], len(bits)]
    return [
        _to_array(bits[start:end]) if is_odd else _NO_ODD
        for start, end, is_odd in zip(starts, ends, has_odd, strict=True)
    ]


def _to_array(bits: Int64s) -> bytes:
    elements = copy.to_elements(bits).tobytes()
    header = copy.ARRAY_HEADER.pack(1, 0, copy.FLOAT8_OID, len(bits), 1)
    return _FIELD.pack(len(header) + len(elements)) + header + elements


def are_odd(bits: Int64s) -> Bools:
    """Where SQL cannot make a double from its bits: infinities, NaN, and values close to zero."""
    magnitudes = bits.view(np.uint64) << 1
    # Unsigned, so that what is too small counts as too large.
    is_odd: Bools = magnitudes - _MIN_MAGNITUDE >= _MAGNITUDES
    is_odd &= magnitudes != 0
    return is_odd
