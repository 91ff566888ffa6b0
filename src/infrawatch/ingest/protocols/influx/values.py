"""Conversion of field values to numbers: floats, integers, booleans."""

import math

from infrawatch.ingest.decoding.names import Flaw

BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), 0.0),
}

_MAX_INTEGER_CHARACTERS = 40
"""Twice the length of the largest, to allow leading zeros; Python refuses very long integers."""

_TOO_LARGE = 2**64
"""Stands for integers that are too long to be parsed."""

STRING = Flaw("string_field", "a string cannot be stored as a sample: make it a tag, or drop it")
_NOT_FINITE = Flaw("not_finite", "NaN, infinities and numbers beyond float64 are not stored")
_NOT_SIGNED = Flaw(
    "out_of_range", f"an integer ending in i lies between {-(2**63)} and {2**63 - 1}"
)
_NOT_UNSIGNED = Flaw("out_of_range", f"an integer ending in u lies between 0 and {2**64 - 1}")


def to_number(value: bytes) -> float | Flaw:
    """Read the value of a field, which matches `grammar.VALUE`.

    Floats are rounded correctly, integers beyond 2^53 to the nearest float64; true is 1, false 0.
    """
    match value[-1:]:
        case b"i":
            integer = _to_integer(value)
            return float(integer) if -(2**63) <= integer < 2**63 else _NOT_SIGNED
        case b"u":
            integer = _to_integer(value)
            return float(integer) if 0 <= integer < 2**64 else _NOT_UNSIGNED
        case b'"':
            return STRING
    boolean = BOOLEANS.get(value)
    if boolean is not None:
        return boolean
    number = float(value)
    return number if math.isfinite(number) else _NOT_FINITE


def _to_integer(value: bytes) -> int:
    return int(value[:-1]) if len(value) <= _MAX_INTEGER_CHARACTERS else _TOO_LARGE
