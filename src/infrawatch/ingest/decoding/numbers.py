"""Vectorised parsing of numbers as written in JSON and line protocol."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, TypeAdapter, ValidationError

from infrawatch.ingest.schemas import Value
from infrawatch.model.samples import Float64s

MAX_WIDTH = 19
"""Digits of the largest signed 64-bit integer."""

_ARRAY: TypeAdapter[list[float]] = TypeAdapter(Annotated[list[Value], FailFast()])
_POWERS_OF_TEN = 10 ** np.arange(MAX_WIDTH - 1, -1, -1, dtype=np.uint64)


def windows(text: bytearray | NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A view of a text as rows: the `width` characters from each position; writable."""
    # Like numpy's sliding_window_view, which takes ten times as long to create.
    rows = max(len(text) - width + 1, 0)
    return np.ndarray((rows, width), np.uint8, text, strides=(1, 1))


def read_digits(rows: NDArray[np.uint8]) -> NDArray[np.uint64] | None:
    """Read rows of digits, at most `MAX_WIDTH` in each; None if there is anything but digits."""
    digits = rows - np.uint8(ord("0"))
    if (digits > 9).any():  # noqa: PLR2004  # the digit
        return None
    return digits.astype(np.uint64) @ _POWERS_OF_TEN[-digits.shape[1] :]


def read_array(text: bytes | bytearray) -> Float64s | None:
    """Read a JSON array of finite numbers, each correctly rounded; None if it is anything else."""
    try:
        values = _ARRAY.validate_json(text)
    except ValidationError:
        return None
    return np.fromiter(values, np.float64, len(values))
