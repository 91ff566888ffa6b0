"""The values of fields as numbers: floats, integers, booleans."""

import math

from infrawatch.ingest.names import Flaw

_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), 0.0),
}

_MAX_INTEGER_CHARACTERS = 40
"""Twice what the largest integer has; Python takes quadratic time to read very long ones."""

_STRING = Flaw("string_field", "a string cannot be stored as a sample: make it a tag, or drop it")
_NOT_FINITE = Flaw("not_finite", "NaN, infinities and numbers beyond float64 are not stored")
_OUT_OF_RANGE = Flaw("out_of_range", "expected an integer of 64 bits")


def to_number(value: bytes) -> float | Flaw:
    """Read the value of a field, one of `grammar.VALUE`.

    Floats are rounded correctly; integers beyond 2^53 to the nearest float64; true is 1, false 0.
    """
    match value[-1:]:
        case b"i":
            return _to_integer(value, -(2**63), 2**63)
        case b"u":
            return _to_integer(value, 0, 2**64)
        case b'"':
            return _STRING
    boolean = _BOOLEANS.get(value)
    if boolean is not None:
        return boolean
    number = float(value)
    return number if math.isfinite(number) else _NOT_FINITE


def _to_integer(value: bytes, start: int, end: int) -> float | Flaw:
    if len(value) > _MAX_INTEGER_CHARACTERS or not start <= int(value[:-1]) < end:
        return _OUT_OF_RANGE
    return float(int(value[:-1]))
