"""Rollups as table rows: the buckets of several series of a block in the same time."""

from collections.abc import Sequence

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s, Positions
from infrawatch.store.columns import copy
from infrawatch.store.columns.copy_rows import Arrays, Fields, joined
from infrawatch.store.columns.ragged import Runs
from infrawatch.store.rollups.bucket_packing import FUNCTIONS, PackedBuckets
from infrawatch.store.rollups.buckets import ROW_BUCKETS
from infrawatch.store.selection.requested_ids import block_of

_FACTS = 6
"""Numbers per series in `facts`: its id, two with several packed fields, factor, base, slope."""

_EXPONENT_BITS = 5
_WIDTH_BITS = 6
_COUNT_BITS = 32
"""An hour has fewer than 2^32 microseconds, and a series at most one sample in each."""

_ROW_BYTES = 1_800
"""A row ends with the series that reaches this size. No series takes 1,100 bytes, and four rows fit
a page."""

_SCALARS = {
    **dict.fromkeys(("block", "first_id", "last_id", "start_at"), ">i8"),
    "shard": ">i2",
}
_ARRAYS = ("facts", "words", "raw")
ROLLUP_COLUMNS = (*_SCALARS, *_ARRAYS)

ROLLUP_FIELDS = f"""
string_agg(timestamptz_send(k.start_at), ''), string_agg(int4send(cardinality(k.facts)), ''),
{", ".join(f"string_agg(substr(array_send(k.{column}), 21), '')" for column in _ARRAYS)}
"""
"""The fields of one row for all selected rows `k`; arrays come without their 20-byte headers."""


def to_copy(packed: PackedBuckets) -> bytes:
    """Encode rows of `ROLLUP_COLUMNS` for binary COPY."""
    shards, blocks = packed.series_ids & (SHARDS - 1), block_of(packed.series_ids)
    order = np.lexsort((packed.series_ids, packed.starts_us, blocks, shards))
    packed, shards, blocks = packed.picked(order), shards[order], blocks[order]
    words, raw = packed.word_runs, packed.raw_runs
    rows = _rows(np.stack((shards, blocks, packed.starts_us)), words.counts + raw.counts)
    of_raw = packed.exponents < 0
    before = np.where(of_raw, _within(raw, rows), _within(words, rows))
    columns = {
        "block": blocks[rows.starts],
        "first_id": packed.series_ids[rows.starts],
        "last_id": packed.series_ids[rows.lasts],
        "start_at": packed.starts_us[rows.starts] - copy.PG_EPOCH_US,
        "shard": shards[rows.starts],
    }
    return joined(
        (
            Fields.first(_SCALARS, columns, len(ROLLUP_COLUMNS)),
            Arrays(copy.INT8_OID, _FACTS * rows.counts, _to_facts(packed, before)),
            Arrays(copy.INT8_OID, np.add.reduceat(words.counts, rows.starts), packed.words),
            Arrays(
                copy.FLOAT8_OID, np.add.reduceat(raw.counts, rows.starts), packed.raw.view(np.int64)
            ),
        )
    )


def from_row(fields: Sequence[bytes | None]) -> PackedBuckets:
    """Decode the result of `ROLLUP_FIELDS`, whose fields are all NULL if there were no rows."""
    starts, sizes, *arrays = (one or b"" for one in fields)
    starts_us = np.frombuffer(starts, ">i8").astype(np.int64) + copy.PG_EPOCH_US
    series = np.frombuffer(sizes, ">i4").astype(np.int64) // _FACTS
    facts, words, raw = map(copy.from_joined_elements, arrays)
    ids, packing, counting, factors, bases, slopes = facts.reshape(-1, _FACTS).T
    masks = packing & (1 << ROW_BUCKETS) - 1
    packing = packing >> ROW_BUCKETS
    exponents = (packing & (1 << _EXPONENT_BITS) - 1) - 1
    widths = packing[:, np.newaxis] >> _EXPONENT_BITS + _WIDTH_BITS * np.arange(FUNCTIONS)
    return PackedBuckets(
        series_ids=ids,
        starts_us=np.repeat(starts_us, series),
        masks=masks,
        bits=widths & (1 << _WIDTH_BITS) - 1,
        least_counts=counting & (1 << _COUNT_BITS) - 1,
        exponents=exponents,
        factors=factors,
        bases=bases,
        slopes=slopes,
        words=words,
        raw=raw.view(np.float64),
    )


def _rows(keys: Int64s, numbers: Int64s) -> Runs:
    """Cut the entries into rows: consecutive entries with equal keys, as many as a row takes."""
    ends = np.cumsum(8 * (_FACTS + numbers))
    runs = Runs.of_equal(*keys)
    # Counted from the first entry with the same keys, so that other keys do not move the cuts.
    before = ends - 8 * (_FACTS + numbers)
    pages = (before - runs.spread(before[runs.starts])) // _ROW_BYTES
    return Runs.of_equal(*keys, pages)


def _within(parts: Runs, rows: Runs) -> Positions:
    """Return the start of each part within its row."""
    return parts.starts - rows.spread(parts.starts[rows.starts])


def _to_facts(packed: PackedBuckets, before: Int64s) -> Int64s:
    packing = np.zeros_like(packed.masks)
    for column in packed.bits.T[::-1]:
        packing = packing << _WIDTH_BITS | column
    packing = packing << _EXPONENT_BITS | packed.exponents + 1
    packing = packing << ROW_BUCKETS | packed.masks
    counting = before << _COUNT_BITS | packed.least_counts
    columns = (packed.series_ids, packing, counting, packed.factors, packed.bases, packed.slopes)
    return np.stack(columns, axis=1).reshape(-1)
