"""PostgreSQL's binary COPY, built from numpy columns without handling samples one by one.

Source: PostgreSQL documentation, COPY, "Binary Format"; array_recv in
src/backend/utils/adt/arrayfuncs.c for the layout of arrays.
"""

import struct
from collections.abc import AsyncGenerator, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Int64s
from infrawatch.store.connections import to_driver_in_transaction

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

INT8_OID = 20
FLOAT8_OID = 701

PG_EPOCH_US = 946_684_800_000_000
"""2000-01-01, the epoch of PostgreSQL's timestamps."""

ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])
"""One element of an array of 8-byte values, as sent and as received."""

ARRAY_HEADER = struct.Struct(">iiiii")
"""Dimensions, has-null flag, element type, length, lower bound."""

Piece = bytes | memoryview

_PIECE_BYTES = 1 << 19
"""Large enough to be cheap, small enough for asyncpg's flow control to work."""


def to_elements(bits: Int64s) -> NDArray[np.void]:
    """Convert 8-byte values to elements of a PostgreSQL array.

    Floats are passed as their bits, because a conversion could quieten a signalling NaN.
    """
    elements = np.empty(len(bits), ELEMENT)
    elements["length"] = 8
    elements["value"] = bits
    return elements


def from_joined_elements(sent: bytes) -> Int64s:
    """Decode, as bits, the elements of arrays of 8-byte values joined without their headers."""
    return np.frombuffer(sent, ELEMENT)["value"].astype(np.int64)


def to_array_text(elements: Int64s | Sequence[int | str]) -> str:
    """Format an array as PostgreSQL text: asyncpg takes ten times as long to send a list.

    Elements that are texts must need no quotes.
    """
    plain = elements.tolist() if isinstance(elements, np.ndarray) else elements
    return f"{{{','.join(map(str, plain))}}}"


async def copy_binary(
    connection: AsyncConnection, table: str, columns: Sequence[str], parts: Sequence[Piece]
) -> None:
    """Append rows, given as pieces of their binary form, in the open transaction."""
    driver = to_driver_in_transaction(connection)
    await driver.copy_to_table(table, source=_pieces(parts), columns=columns, format="binary")


async def _pieces(parts: Sequence[Piece]) -> AsyncGenerator[memoryview, None]:
    whole = memoryview(b"".join((HEADER, *parts, TRAILER)))
    for start in range(0, len(whole), _PIECE_BYTES):
        yield whole[start : start + _PIECE_BYTES]
