"""The values of fields as numbers: floats, integers, booleans."""

import math
import re

from infrawatch.ingest.names import Flaw

_FLOAT = re.compile(rb"-?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+")
_INTEGER = re.compile(rb"(-?[0-9]++)i|([0-9]++)u")
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), 0.0),
}

_MAX_DIGITS = 40
"""Twice what the largest integer has; Python takes quadratic time to read very long ones."""

_STRING = Flaw("string_field", "a string cannot be stored as a sample: make it a tag, or drop it")
_INFINITE = Flaw("not_finite", "NaN, infinities and numbers beyond float64 are not stored")
_TOO_LARGE = Flaw("out_of_range", "expected an integer of 64 bits")


def to_number(value: bytes) -> float | Flaw | None:
    """Read the value of a field; None when it is nothing that the grammar knows.

    Floats are rounded correctly; integers beyond 2^53 to the nearest float64; true is 1, false 0.
    """
    if _FLOAT.fullmatch(value):
        number = float(value)
        return number if math.isfinite(number) else _INFINITE
    integer = _INTEGER.fullmatch(value)
    if integer:
        signed, unsigned = integer.groups()
        return _to_integer(signed, -(2**63), 2**63) if signed else _to_integer(unsigned, 0, 2**64)
    if value.startswith(b'"'):
        return _STRING
    if _NOT_FINITE.fullmatch(value):
        return _INFINITE
    return _BOOLEANS.get(value)


def _to_integer(digits: bytes, start: int, end: int) -> float | Flaw:
    if len(digits) > _MAX_DIGITS or not start <= int(digits) < end:
        return _TOO_LARGE
    return float(int(digits))
