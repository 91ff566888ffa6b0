"""Chunks as rows of PostgreSQL: binary COPY in, joined arrays out, no chunk touched by itself.

Source: PostgreSQL documentation, COPY, "Binary Format"; array_recv in
src/backend/utils/adt/arrayfuncs.c for the layout of arrays.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s
from infrawatch.store import copy
from infrawatch.store.chunk_times import ChunkTimes
from infrawatch.store.chunk_values import RAW, ChunkValues
from infrawatch.store.codec import Chunks
from infrawatch.store.packing import words_in
from infrawatch.store.ragged import Runs

_ALWAYS = {
    "shard": ">i2",
    "series_id": ">i8",
    "start_at": ">i8",
    "end_at": ">i8",
    "count": ">i4",
    "step_us": ">i8",
    "exponent": ">i2",
    "factor": ">i8",
    "base": ">i8",
    "slope": ">i8",
    "delta_bits": ">i2",
}
_UNEVEN = {"tick_us": ">i8", "shift_us": ">i8", "late_bits": ">i2", "time_bits": ">i2"}
_ARRAYS = ("times", "deltas", "raw")

CHUNK_COLUMNS = (*_ALWAYS, *_UNEVEN, *_ARRAYS)
"""What `to_copy` fills, in its order; those of an uneven grid and empty arrays are NULL."""

HEAD_COLUMNS = ("generation", *CHUNK_COLUMNS)
"""The same for small chunks of open windows."""

_SENT_TIMES = ("start_at", "end_at")


def _sent(column: str) -> str:
    """The SQL that sends a column of all rows as one string; 20 bytes are the array's header."""
    if column in _ARRAYS:
        return f"string_agg(substr(array_send(k.{column}), 21), '')"
    as_bigint = f"k.{column}" if column in _SENT_TIMES else f"CAST(k.{column} AS bigint)"
    return f"substr(array_send(array_agg({as_bigint})), 21)"


_READ_COLUMNS = tuple(column for column in CHUNK_COLUMNS if column != "shard")

CHUNK_FIELDS = ", ".join(_sent(column) for column in _READ_COLUMNS)
"""The fields of one row that holds all selected chunks `k`, for `from_row`.

Aggregates see rows in the same order, so chunks come in the order of the rows they run over. This
costs 3 µs a chunk for PostgreSQL and next to nothing here, where a row for each chunk costs 3 more.
"""


class _Array(NamedTuple):
    """An array column of all chunks: where it has no elements it is NULL."""

    type_oid: int
    counts: Int64s
    bits: Int64s

    @property
    def sizes(self) -> Int64s:
        return np.where(self.counts == 0, 1, _UNITS_OF_HEADER + _UNITS_OF_ELEMENT * self.counts)


def to_copy(chunks: Chunks, generation: int | None = None) -> bytes:
    """Rows of binary COPY in the order of `CHUNK_COLUMNS`, or of `HEAD_COLUMNS` with a generation.

    Header and trailer of the stream are not among them.
    """
    arrays = _arrays(chunks)
    head = _head(chunks, generation)
    uneven = np.flatnonzero(chunks.times.widths)
    ...
