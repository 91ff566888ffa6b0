"""The scalars of protobuf's JSON mapping.

Source: protobuf.dev, "ProtoJSON Format", Representation of each type.
"""

import math
import re
from base64 import b64decode
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def _to_integer(value: object) -> object:
    """64-bit integers are decimal strings; numbers are accepted as well, even written as 1.0."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _to_double(value: object) -> object:
    """Accept a number or a numeric string; NaN and infinities must be strings."""
    if isinstance(value, str):
        if value in _NO_NUMBERS:
            return _NO_NUMBERS[value]
        if not _NUMBER.fullmatch(value):
            return value
        value = float(value)
    if isinstance(value, int | float) and not abs(value) < math.inf:
        raise ValueError("NaN and infinity are written as strings")
    return value


def _to_bytes(text: str) -> bytes:
    """Decode base64 in either alphabet, with or without padding."""
    standard = text.translate(_STANDARD_ALPHABET).rstrip("=")
    return b64decode(standard + "=" * (-len(standard) % 4), validate=True)


Text = StrictStr | None
Bool = StrictBool | None
Bytes = Annotated[StrictStr, AfterValidator(_to_bytes)] | None
Double = Annotated[StrictFloat, BeforeValidator(_to_double)]
Int32 = Annotated[StrictInt, Field(ge=-(2**31), lt=2**31), BeforeValidator(_to_integer)] | None
UInt32 = Annotated[StrictInt, Field(ge=0, lt=2**32), BeforeValidator(_to_integer)] | None
Int64 = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63), BeforeValidator(_to_integer)] | None
UInt64 = Annotated[StrictInt, Field(ge=0, lt=2**64), BeforeValidator(_to_integer)]
Enum = Annotated[StrictInt, Field(ge=-(2**31), lt=2**31)] | None
"""Enum values are accepted only by number, not by name."""
