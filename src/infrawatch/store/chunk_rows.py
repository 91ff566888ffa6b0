"""Chunks as rows of PostgreSQL: binary COPY in, joined arrays out, no chunk touched by itself.

Source: PostgreSQL documentation, COPY, "Binary Format"; array_recv in
src/backend/utils/adt/arrayfuncs.c for the layout of arrays.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
"""In the order of `to_copy`. Those of an uneven grid and arrays without elements may be NULL."""

HEAD_COLUMNS = ("generation", *CHUNK_COLUMNS)
"""The same with a generation."""

_ARRAY_HEADER = np.dtype(
    [(name, ">i4") for name in ("bytes", "dimensions", "has_null", "type", "elements", "first")]
)
_UNIT = np.dtype(np.uint32)
"""All pieces of a row are multiples of four bytes, so rows are put together in these."""

_NULL = 0xFFFFFFFF
_HEADER_UNITS = _ARRAY_HEADER.itemsize // _UNIT.itemsize
_ELEMENT_UNITS = copy.ELEMENT.itemsize // _UNIT.itemsize

Units = NDArray[np.uint32]


def _sent(column: str) -> str:
    """SQL that sends a column of all rows as one string, without the 20 bytes of array header."""
    if column in _ARRAYS:
        return f"string_agg(substr(array_send(k.{column}), 21), '')"
    if column in ("start_at", "end_at"):
        return f"substr(array_send(array_agg(k.{column})), 21)"
    return f"substr(array_send(array_agg(CAST(coalesce(k.{column}, 0) AS bigint))), 21)"


CHUNK_FIELDS = ", ".join(_sent(column) for column in CHUNK_COLUMNS[1:])
"""One row that holds all selected chunks `k`, in the order in which they are met; see `from_row`.

It takes PostgreSQL 3 µs a chunk. A row for each chunk would take 3 more here.
"""


class _Array(NamedTuple):
    """An array column of all chunks; without elements it is NULL."""

    type_oid: int
    counts: Int64s
    bits: Int64s

    @property
    def sizes(self) -> Int64s:
        return np.where(self.counts, _HEADER_UNITS + _ELEMENT_UNITS * self.counts, 1)

    def place(self, rows: Units, starts: Int64s) -> None:
        filled = np.flatnonzero(self.counts)
        counts = self.counts[filled]
        headers = np.empty(len(filled), _ARRAY_HEADER)
        headers["bytes"] = copy.ARRAY_HEADER.size + copy.ELEMENT.itemsize * counts
        headers["dimensions"], headers["has_null"], headers["first"] = 1, 0, 1
        headers["type"], headers["elements"] = self.type_oid, counts
        _place(rows, starts[filled], headers)
        places = Runs(starts[filled] + _HEADER_UNITS, counts * _ELEMENT_UNITS).positions()
        rows[places] = copy.to_elements(self.bits).view(_UNIT)


def to_copy(chunks: Chunks, generation: int | None = None) -> bytes:
    """Rows of `CHUNK_COLUMNS` in binary COPY, of `HEAD_COLUMNS` when given a generation.

    They are what stands between the header and the trailer of the stream.
    """
    head = _head(chunks, generation)
    uneven = np.flatnonzero(chunks.times.widths)
    grid = _grid(chunks.times, uneven)
    arrays = _arrays(chunks)
    head_units, grid_units = head.itemsize // _UNIT.itemsize, grid.itemsize // _UNIT.itemsize
    grid_sizes = np.where(chunks.times.widths, grid_units, len(_UNEVEN))
    sizes = head_units + grid_sizes + sum(array.sizes for array in arrays)
    starts = np.cumsum(sizes) - sizes
    rows = np.full(int(sizes.sum()), _NULL, _UNIT)
    _place(rows, starts, head)
    starts += head_units
    _place(rows, starts[uneven], grid)
    starts += grid_sizes
    for array in arrays:
        array.place(rows, starts)
        starts += array.sizes
    return rows.tobytes()


def from_row(fields: Sequence[bytes | None]) -> Chunks:
    """Read the answer to `CHUNK_FIELDS`; no chunks at all are all NULL."""
    read = {
        column: copy.from_joined_elements(sent or b"")
        for column, sent in zip(CHUNK_COLUMNS[1:], fields, strict=True)
    }
    return Chunks(
        series_ids=read["series_id"],
        starts_us=read["start_at"] + copy.PG_EPOCH_US,
        ends_us=read["end_at"] + copy.PG_EPOCH_US,
        counts=read["count"],
        times=ChunkTimes(
            read["step_us"],
            read["tick_us"],
            read["shift_us"],
            read["late_bits"].astype(np.int16),
            read["time_bits"].astype(np.int16),
            read["times"],
        ),
        values=ChunkValues(
            read["exponent"].astype(np.int16),
            read["factor"],
            read["base"],
            read["slope"],
            read["delta_bits"].astype(np.int16),
            read["deltas"],
            read["raw"].view(np.float64),
        ),
    )


def _head(chunks: Chunks, generation: int | None) -> NDArray[np.void]:
    values = chunks.values
    columns = {
        "shard": chunks.series_ids & (SHARDS - 1),
        "series_id": chunks.series_ids,
        "start_at": chunks.starts_us - copy.PG_EPOCH_US,
        "end_at": chunks.ends_us - copy.PG_EPOCH_US,
        "count": chunks.counts,
        "step_us": chunks.times.steps_us,
        "exponent": values.exponents,
        "factor": values.factors,
        "base": values.bases,
        "slope": values.slopes,
        "delta_bits": values.widths,
    }
    kinds = _ALWAYS
    if generation is not None:
        kinds = {"generation": ">i8", **_ALWAYS}
        columns["generation"] = np.full(len(chunks), generation)
    columns["fields"] = np.full(len(chunks), len(kinds) + len(_UNEVEN) + len(_ARRAYS))
    return _records([("fields", ">i2")], kinds, columns)


def _grid(times: ChunkTimes, uneven: NDArray[np.intp]) -> NDArray[np.void]:
    columns = {
        "tick_us": times.ticks_us[uneven],
        "shift_us": times.shifts_us[uneven],
        "late_bits": times.late_bits[uneven],
        "time_bits": times.widths[uneven],
    }
    return _records([], _UNEVEN, columns)


def _arrays(chunks: Chunks) -> tuple[_Array, ...]:
    """The columns of `_ARRAYS`, in that order."""
    times, values = chunks.times, chunks.values
    raw_counts = np.where(values.exponents == RAW, chunks.counts, 0)
    return (
        _Array(copy.INT8_OID, words_in(chunks.counts, times.widths), times.words),
        _Array(copy.INT8_OID, words_in(chunks.counts, values.widths), values.words),
        _Array(copy.FLOAT8_OID, raw_counts, values.raw.view(np.int64)),
    )


def _records(
    before: list[tuple[str, str]], kinds: Mapping[str, str], columns: Mapping[str, NDArray[np.integer]]
) -> NDArray[np.void]:
    """Fields as they follow each other in a row, each after its length in bytes."""
    fields = [part for name, kind in kinds.items() for part in ((f"{name} length", ">i4"), (name, kind))]
    records = np.empty(len(columns[next(iter(kinds))]), np.dtype([*before, *fields]))
    for name, kind in kinds.items():
        records[f"{name} length"] = np.dtype(kind).itemsize
    for name, column in columns.items():
        records[name] = column
    return records


def _place(rows: Units, starts: Int64s, records: NDArray[np.void]) -> None:
    units = records.view(_UNIT).reshape(len(records), records.itemsize // _UNIT.itemsize)
    rows[starts[:, np.newaxis] + np.arange(units.shape[1])] = units
