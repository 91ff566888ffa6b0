"""Samples as `bit varying`, 64 bits a number: they travel by memcpy, and SQL can read them."""

import struct
from collections.abc import Sequence

import numpy as np

from infrawatch.model.samples import Bools, Int64s
from infrawatch.store import copy

_HEAD = struct.Struct(">ii")
"""Of a `bit varying`: its length in bytes, with the length in bits that follows."""

_FIELD = struct.Struct(">i")
"""What stands before any field: its length."""

_NO_ODD = _FIELD.pack(-1)

_LEAST_EXPONENT = 53
"""Of a double whose parts SQL can put together again; from 2047 on it is infinite or no number."""

_EXPONENTS = 2047


def to_sent(column: str) -> str:
    """SQL that sends a column of bits; `varbit_send` begins with the number of bits."""
    return f"substr(varbit_send({column}), 5)"


def to_bits(numbers: Int64s) -> memoryview:
    """What columns of bits are cut from, eight bytes a number."""
    return memoryview(numbers.astype(">i8").tobytes())


def to_head(numbers: int) -> bytes:
    """What stands before so many numbers in a field."""
    return _HEAD.pack(4 + 8 * numbers, 64 * numbers)


def from_bits(sent: bytes | None) -> Int64s:
    """The numbers of columns of bits, one after the other; NULL are none."""
    return np.frombuffer(sent or b"", ">i8").astype(np.int64)


def to_odd(bits: Int64s, starts: Sequence[int]) -> list[bytes]:
    """The column `odd` of rows of doubles that begin there: NULL, or all of a row as an array."""
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
    """Where SQL cannot make the double of its bits: infinities, NaN, and what is almost zero."""
    exponents = bits >> 52 & _EXPONENTS
    is_odd: Bools = (exponents < _LEAST_EXPONENT) | (exponents == _EXPONENTS)
    is_odd &= bits << 1 != 0
    return is_odd
