"""Rollups as rows of PostgreSQL: every function of a row packed as the values of a chunk are."""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Float64s, Int64s
from infrawatch.store import copy
from infrawatch.store.buckets import Buckets
from infrawatch.store.chunk_times import ChunkTimes, decode_times, encode_times
from infrawatch.store.chunk_values import RAW, ChunkValues, decode_values, encode_values
from infrawatch.store.packing import words_in
from infrawatch.store.ragged import Runs

_FUNCTIONS = 5
"""count, sum, min, max and last, in this order."""

_FACTS = 6
"""Numbers that `facts` has for each function: how it is packed, and where its words begin."""

_SCALARS = (
    *("series_id", "start_at", "end_at", "step_us", "tick_us", "shift_us"),
    *("count", "shard", "late_bits", "time_bits"),
)
_ARRAYS = ("times", "facts", "words", "raw")
ROLLUP_COLUMNS = (*_SCALARS, *_ARRAYS)

_ROW_HEAD = struct.Struct(">h iq iq iq iq iq iq ii ih ih ih")
"""How many fields the row has, and those that are no arrays, each after its length."""

_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)


def _sent(column: str) -> str:
    """SQL that sends a column of all rows as one string; an array without its 20-byte header."""
    if column in _ARRAYS:
        return f"string_agg(substr(array_send(k.{column}), 21), '')"
    if column in ("start_at", "end_at"):
        return f"string_agg(timestamptz_send(k.{column}), '')"
    return f"string_agg(int8send(k.{column}), '')"


ROLLUP_FIELDS = ", ".join(map(_sent, ROLLUP_COLUMNS))
"""The fields of one row for all selected rows `k`, in the order in which they are met."""


def to_copy(buckets: Buckets, row_us: int) -> list[bytes]:
    """Rows of binary COPY, of `ROLLUP_COLUMNS`; takes buckets sorted by (series, time)."""
    runs = buckets.runs_within(row_us)
    times = encode_times(buckets.times_us, runs)
    parts = Runs.of(np.repeat(runs.counts, _FUNCTIONS))
    numbers = np.empty(parts.total)
    for place, column in enumerate(buckets[2:]):
        numbers[parts.picked(np.arange(place, len(parts.counts), _FUNCTIONS)).positions()] = column
    values = encode_values(numbers, parts)
    arrays = (
        _Slices(times.times.view(np.int64), words_in(runs.counts, times.time_bits)),
        *_packed(values, parts.counts),
    )
    scalars = np.column_stack(
        [
            buckets.series_ids[runs.starts],
            buckets.times_us[runs.starts] - copy.PG_EPOCH_US,
            buckets.times_us[runs.lasts] - copy.PG_EPOCH_US,
            *(times.step_us, times.tick_us, times.shift_us, runs.counts),
            buckets.series_ids[runs.starts] & (SHARDS - 1),
            *(times.late_bits, times.time_bits),
        ]
    )
    return list(_rows(scalars, arrays))


def from_row(fields: Sequence[bytes | None]) -> Buckets:
    """Read the answer to `ROLLUP_FIELDS`; the buckets come row by row, each in order of time."""
    columns = dict(zip(ROLLUP_COLUMNS, (one or b"" for one in fields), strict=True))
    scalars = {name: np.frombuffer(columns[name], ">i8").astype(np.int64) for name in _SCALARS}
    times, facts, words, raw = (copy.from_joined_elements(columns[name]) for name in _ARRAYS)
    counts = scalars["count"]
    parts = np.repeat(counts, _FUNCTIONS)
    packing = np.ascontiguousarray(facts.reshape(-1, _FACTS)[:, :-1].T)
    values = ChunkValues._make([*packing, words, raw.view(np.float64)])
    numbers = decode_values(values, parts)
    runs = Runs.of(parts)
    grid = ChunkTimes._make([*(scalars[name] for name in ChunkTimes._fields[:-1]), times])
    return Buckets(
        np.repeat(scalars["series_id"], counts),
        decode_times(grid, scalars["start_at"] + copy.PG_EPOCH_US, counts),
        *(
            numbers[runs.picked(np.arange(place, len(parts), _FUNCTIONS)).positions()]
            for place in range(_FUNCTIONS)
        ),
    )


class _Slices:
    """An array column: numbers of all rows in order, cut as they are asked for."""

    def __init__(self, bits: Int64s, counts: Int64s, oid: int = copy.INT8_OID) -> None:
        self._elements = copy.to_elements(bits).tobytes()
        self._ends = np.cumsum(counts).tolist()
        self._counts = counts.tolist()
        self._oid = oid

    def field(self, row: int) -> bytes:
        """The row's array after its length; NULL if it has no elements."""
        count, end = self._counts[row], self._ends[row]
        if count == 0:
            return _NULL
        size = copy.ELEMENT.itemsize
        elements = self._elements[(end - count) * size : end * size]
        header = copy.ARRAY_HEADER.pack(1, 0, self._oid, count, 1)
        return b"".join((_LENGTH.pack(len(header) + len(elements)), header, elements))


def _packed(values: ChunkValues, counts: Int64s) -> tuple[_Slices, _Slices, _Slices]:
    """The columns `facts`, `words` and `raw`."""
    words = words_in(counts, values.delta_bits).reshape(-1, _FUNCTIONS)
    is_raw = (values.exponent == RAW).reshape(-1, _FUNCTIONS)
    raw = np.where(is_raw, counts.reshape(-1, _FUNCTIONS), 0)
    before = np.where(is_raw, np.cumsum(raw, axis=1) - raw, np.cumsum(words, axis=1) - words)
    facts = np.column_stack([*values[:-2], before.reshape(-1)]).reshape(-1)
    return (
        _Slices(facts, np.full(len(words), _FUNCTIONS * _FACTS)),
        _Slices(values.deltas, words.sum(axis=1)),
        _Slices(_bits(values.raw), raw.sum(axis=1), copy.FLOAT8_OID),
    )


def _rows(scalars: Int64s, arrays: Sequence[_Slices]) -> Iterator[bytes]:
    fields = len(ROLLUP_COLUMNS)
    for row, (series_id, start, end, step, tick, shift, *small) in enumerate(scalars.tolist()):
        count, shard, late_bits, time_bits = small
        yield _ROW_HEAD.pack(
            *(fields, 8, series_id, 8, start, 8, end, 8, step, 8, tick, 8, shift),
            *(4, count, 2, shard, 2, late_bits, 2, time_bits),
        )
        for array in arrays:
            yield array.field(row)


def _bits(values: Float64s) -> Int64s:
    return values.view(np.int64)
