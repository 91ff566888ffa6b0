"""Chunks as table rows: written by binary COPY, read as joined arrays, never one by one."""

from collections.abc import Sequence

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s
from infrawatch.store.chunks.codec import Chunks
from infrawatch.store.chunks.times import ChunkTimes
from infrawatch.store.chunks.values import RAW, ChunkValues
from infrawatch.store.columns import copy
from infrawatch.store.columns.copy_rows import Arrays, Fields, joined
from infrawatch.store.columns.packing import words_in
from infrawatch.store.columns.ragged import scattered

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
"""NULL for chunks whose samples lie exactly on their grid."""

_ARRAYS = ("times", "deltas", "raw")
"""NULL instead of an empty array."""

CHUNK_COLUMNS = (*_ALWAYS, *_UNEVEN, *_ARRAYS)


_SMALL_BITS = 6
"""Enough for values up to 62: the bits of a number, and an exponent plus one."""

_SMALL = f"""
(((count::bigint << {_SMALL_BITS} | exponent + 1) << {_SMALL_BITS} | delta_bits) << {_SMALL_BITS}
    | coalesce(late_bits, 0)) << {_SMALL_BITS} | coalesce(time_bits, 0)
"""
"""Five columns in one number: PostgreSQL takes 0.1 µs to send a number, whatever its value."""

_NUMBERS = ("series_id", "start_at", "end_at", "step_us", "factor", "base", "slope")
_RARE = ("tick_us", "shift_us")
"""Omitted from the result where they are NULL."""


def _sent(column: str) -> str:
    """SQL that sends a column of all rows as one string; an array without its 20-byte header."""
    if column in _ARRAYS:
        return f"string_agg(substr(array_send({column}), 21), '')"
    if column in ("start_at", "end_at"):
        return f"string_agg(timestamptz_send({column}), '')"
    return f"string_agg(int8send({column}), '')"


_FIELDS = (_SMALL, *_NUMBERS, *_RARE, *_ARRAYS)
CHUNK_FIELDS_SENT = len(_FIELDS)
CHUNK_FIELDS = ", ".join(map(_sent, _FIELDS))
"""The fields of a single row for all selected chunks, in the order PostgreSQL reads them.

This costs PostgreSQL no more than a row per chunk, and decoding 0.7 µs per chunk instead of 3.3.
"""


def to_copy(chunks: Chunks) -> bytes:
    """Encode rows of `CHUNK_COLUMNS` for binary COPY, without the stream's header and trailer."""
    times, values = chunks.times, chunks.values
    columns = {
        "shard": chunks.series_ids & (SHARDS - 1),
        "series_id": chunks.series_ids,
        "start_at": chunks.starts_us - copy.PG_EPOCH_US,
        "end_at": chunks.ends_us - copy.PG_EPOCH_US,
        "count": chunks.counts,
        **times._asdict(),
        **values._asdict(),
    }
    raw_counts = np.where(values.exponent == RAW, chunks.counts, 0)
    return joined(
        (
            Fields.first(_ALWAYS, columns, len(CHUNK_COLUMNS)),
            Fields.of(_UNEVEN, columns, times.time_bits > 0),
            Arrays(copy.INT8_OID, words_in(chunks.counts, times.time_bits), times.times),
            Arrays(copy.INT8_OID, words_in(chunks.counts, values.delta_bits), values.deltas),
            Arrays(copy.FLOAT8_OID, raw_counts, values.raw.view(np.int64)),
        )
    )


def from_row(fields: Sequence[bytes | None]) -> Chunks:
    """Decode the result of `CHUNK_FIELDS`, whose fields are all NULL if there are no chunks."""
    small, *others = (one or b"" for one in fields)
    columns = _unpacked(np.frombuffer(small, ">i8").astype(np.int64))
    is_uneven = columns["time_bits"] > 0
    for name, sent in zip((*_NUMBERS, *_RARE), others, strict=False):
        numbers = np.frombuffer(sent, ">i8").astype(np.int64)
        columns[name] = scattered(numbers, is_uneven, len(is_uneven)) if name in _RARE else numbers
    times, deltas, raw = map(copy.from_joined_elements, others[-len(_ARRAYS) :])
    columns |= {"times": times, "deltas": deltas}
    return Chunks(
        series_ids=columns["series_id"],
        starts_us=columns["start_at"] + copy.PG_EPOCH_US,
        ends_us=columns["end_at"] + copy.PG_EPOCH_US,
        counts=columns["count"],
        times=ChunkTimes._make(columns[name] for name in ChunkTimes._fields),
        values=ChunkValues._make(
            [*(columns[name] for name in ChunkValues._fields[:-1]), raw.view(np.float64)]
        ),
    )


def _unpacked(small: Int64s) -> dict[str, Int64s]:
    columns: dict[str, Int64s] = {}
    for name in ("time_bits", "late_bits", "delta_bits", "exponent"):
        columns[name] = small & (1 << _SMALL_BITS) - 1
        small = small >> _SMALL_BITS
    columns["exponent"] -= 1
    return columns | {"count": small}
