"""The journal: what was committed lately, one row per group and shard, in the shape it arrived."""

import struct
from collections.abc import Iterator

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns
from infrawatch.store import copy

COLUMNS = ("shard", "writer", "seq", "min_at", "max_at", "series_ids", "times", "values")

_ROW_HEAD = struct.Struct(">h ih iq iq iq iq")
"""Number of fields, then shard, writer, seq, min_at, max_at, each after its length."""

_FIELD_LENGTH = struct.Struct(">i")


class JournalRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, writer: int, seq: int, columns: Columns) -> None:
        """Store one group, in order of arrival, in the transaction that advanced its writer."""
        await copy.copy_binary(
            self._connection, "journal", COLUMNS, list(_rows(writer, seq, columns))
        )


def _rows(writer: int, seq: int, columns: Columns) -> Iterator[bytes]:
    """Binary rows, one per shard that occurs; within a shard the order of arrival stays."""
    shards = (columns.series_ids & (SHARDS - 1)).astype(np.int16)
    # A stable sort of 16-bit integers is a radix sort: linear, and arrival order survives.
    by_shard = columns.picked(np.argsort(shards, kind="stable"))
    times = by_shard.times_us - copy.PG_EPOCH_US
    ends = np.cumsum(np.bincount(shards, minlength=SHARDS)).tolist()
    arrays = (
        (copy.INT8_OID, memoryview(copy.to_elements(by_shard.series_ids)).cast("B")),
        (copy.TIMESTAMPTZ_OID, memoryview(copy.to_elements(times)).cast("B")),
        (copy.FLOAT8_OID, memoryview(copy.to_elements(by_shard.values.view(np.int64))).cast("B")),
    )
    start = 0
    for shard, end in enumerate(ends):
        if end == start:
            continue
        earliest, latest = int(times[start:end].min()), int(times[start:end].max())
        yield _ROW_HEAD.pack(len(COLUMNS), 2, shard, 8, writer, 8, seq, 8, earliest, 8, latest)
        for oid, elements in arrays:
            yield from _array(
                oid, elements[start * copy.ELEMENT.itemsize : end * copy.ELEMENT.itemsize]
            )
        start = end


def _array(oid: int, elements: memoryview) -> Iterator[bytes]:
    count = len(elements) // copy.ELEMENT.itemsize
    yield _FIELD_LENGTH.pack(copy.ARRAY_HEADER.size + len(elements))
    yield copy.ARRAY_HEADER.pack(1, 0, oid, count, 1)
    yield elements
