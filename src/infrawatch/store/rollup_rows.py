"""Rollups as rows of PostgreSQL: every function of a row packed as the values of a chunk are."""

from collections.abc import Sequence

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.store import copy
from infrawatch.store.buckets import Buckets
from infrawatch.store.chunk_times import ChunkTimes, decode_times, encode_times
from infrawatch.store.chunk_values import RAW, ChunkValues, decode_values, encode_values
from infrawatch.store.copy_rows import Arrays, Fields, joined
from infrawatch.store.packing import words_in
from infrawatch.store.ragged import Runs

_FUNCTIONS = 5
"""count, sum, min, max and last, in this order."""

_FACTS = 6
"""Numbers that `facts` has for each function: how it is packed, and where its words begin."""

_SCALARS = {
    **dict.fromkeys(("series_id", "start_at", "end_at", "step_us", "tick_us", "shift_us"), ">i8"),
    "count": ">i4",
    "shard": ">i2",
    "late_bits": ">i2",
    "time_bits": ">i2",
}
_ARRAYS = ("times", "facts", "words", "raw")
ROLLUP_COLUMNS = (*_SCALARS, *_ARRAYS)


def _sent(column: str) -> str:
    """SQL that sends a column of all rows as one string; an array without its 20-byte header."""
    if column in _ARRAYS:
        return f"string_agg(substr(array_send(k.{column}), 21), '')"
    if column in ("start_at", "end_at"):
        return f"string_agg(timestamptz_send(k.{column}), '')"
    return f"string_agg(int8send(k.{column}), '')"


ROLLUP_FIELDS = ", ".join(map(_sent, ROLLUP_COLUMNS))
"""The fields of one row for all selected rows `k`, in the order in which they are met."""


def to_copy(buckets: Buckets, row_us: int) -> bytes:
    """Rows of binary COPY, of `ROLLUP_COLUMNS`; takes buckets sorted by (series, time)."""
    runs = buckets.runs_within(row_us)
    times = encode_times(buckets.times_us, runs)
    series_ids = buckets.series_ids[runs.starts]
    columns = {
        "series_id": series_ids,
        "start_at": buckets.times_us[runs.starts] - copy.PG_EPOCH_US,
        "end_at": buckets.times_us[runs.lasts] - copy.PG_EPOCH_US,
        "count": runs.counts,
        "shard": series_ids & (SHARDS - 1),
        **times._asdict(),
    }
    return joined(
        (
            Fields.first(_SCALARS, columns, len(ROLLUP_COLUMNS)),
            Arrays(copy.INT8_OID, words_in(runs.counts, times.time_bits), times.times),
            *_packed(buckets, runs),
        )
    )


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


def _packed(buckets: Buckets, runs: Runs) -> tuple[Arrays, Arrays, Arrays]:
    """The columns `facts`, `words` and `raw`."""
    parts = Runs.of(np.repeat(runs.counts, _FUNCTIONS))
    numbers = np.empty(parts.total)
    for place, column in enumerate(buckets[2:]):
        numbers[parts.picked(np.arange(place, len(parts.counts), _FUNCTIONS)).positions()] = column
    values = encode_values(numbers, parts)
    words = words_in(parts.counts, values.delta_bits).reshape(-1, _FUNCTIONS)
    is_raw = (values.exponent == RAW).reshape(-1, _FUNCTIONS)
    raw = np.where(is_raw, parts.counts.reshape(-1, _FUNCTIONS), 0)
    before = np.where(is_raw, np.cumsum(raw, axis=1) - raw, np.cumsum(words, axis=1) - words)
    facts = np.column_stack([*values[:-2], before.reshape(-1)]).reshape(-1)
    return (
        Arrays(copy.INT8_OID, np.full(len(words), _FUNCTIONS * _FACTS), facts),
        Arrays(copy.INT8_OID, words.sum(axis=1), values.deltas),
        Arrays(copy.FLOAT8_OID, raw.sum(axis=1), values.raw.view(np.int64)),
    )
