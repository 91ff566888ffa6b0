"""The journal: what was committed lately, one row per group and shard, in the shape it arrived."""

import struct
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns
from infrawatch.model.timerange import from_us
from infrawatch.store import copy

COLUMNS = (
    "shard",
    "writer",
    "seq",
    "arrived_at",
    "min_at",
    "max_at",
    "samples",
    "series_ids",
    "times",
    "values",
)

_ROW_HEAD = struct.Struct(">h ih iq iq iq iq iq ii")
"""Number of fields, then shard, writer, seq, three times and a count, each after its length."""

_FIELD_LENGTH = struct.Struct(">i")


# One probe of (shard, arrived_at) per shard and slot; rows of one group are neighbours.
_REPLAY = text("""
SELECT j.writer, j.seq, (extract(epoch FROM j.arrived_at) * 1000000)::bigint,
    substr(array_send(j.series_ids), 21), substr(array_send(j.times), 21),
    substr(array_send(j."values"), 21)
FROM journal j
LEFT JOIN unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS known (writer, seq)
    ON known.writer = j.writer
WHERE j.shard IN (SELECT shard FROM shards) AND j.arrived_at >= :since
    AND j.seq > coalesce(known.seq, 0)
ORDER BY j.arrived_at, j.writer, j.seq, j.shard
""")

# The same rows, but not their samples: the arrays lie elsewhere and are not fetched.
_FIRST_BEYOND = text("""
SELECT (extract(epoch FROM min(j.arrived_at)) * 1000000)::bigint
FROM journal j
LEFT JOIN unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS known (writer, seq)
    ON known.writer = j.writer
WHERE j.shard IN (SELECT shard FROM shards) AND j.arrived_at >= :since
    AND j.seq > coalesce(known.seq, 0)
""")

# The oldest row of each shard is the first of its index. What is not compacted yet is never
# emptied: a journal that is young, or empty because nothing comes, has not lost anything.
_FLOOR = text("""
SELECT (extract(epoch FROM least(min(oldest.arrived_at), max(h.compacted_until))) * 1000000)::bigint
FROM shards h
CROSS JOIN LATERAL (
    SELECT min(arrived_at) AS arrived_at FROM journal j WHERE j.shard = h.shard
) AS oldest
""")


class Entry(NamedTuple):
    """One group's part of the journal: the writer's `seq`-th commit, arrived at `at_us`."""

    writer: int
    seq: int
    at_us: int
    columns: Columns


class JournalRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def append(self, entry: Entry) -> None:
        """Store one group, in order of arrival, in the transaction that advanced its writer."""
        await copy.copy_binary(self.connection, "journal", COLUMNS, list(_rows(entry)))

    async def replay(
        self, seqs: Mapping[int, int], *, since_us: int
    ) -> AsyncGenerator[Entry, None]:
        """Entries that arrived since then and lie beyond `seqs`, in order of arrival.

        Writers that `seqs` does not name are read from their first entry.
        """
        rows = await self.connection.stream(_REPLAY, _beyond(seqs, since_us))
        head: tuple[int, int, int] | None = None
        parts: list[Columns] = []
        async for writer, seq, at_us, *sent in rows:
            if head != (writer, seq, at_us):
                if head is not None:
                    yield Entry(*head, Columns.joined(parts))
                head, parts = (writer, seq, at_us), []
            parts.append(_received(*sent))
        if head is not None:
            yield Entry(*head, Columns.joined(parts))

    async def find_first_beyond(self, seqs: Mapping[int, int], *, since_us: int) -> int | None:
        """When the first entry that `replay` would give arrived, in µs; None if it gives none."""
        answer = await self.connection.execute(_FIRST_BEYOND, _beyond(seqs, since_us))
        at_us: int | None = answer.scalar_one()
        return at_us

    async def floor(self) -> int:
        """The moment, in µs, since which every arrival is still in the journal."""
        return int((await self.connection.execute(_FLOOR)).scalar_one())


def _beyond(seqs: Mapping[int, int], since_us: int) -> dict[str, object]:
    return {
        "writers": list(seqs),
        "seqs": list(seqs.values()),
        "since": from_us(max(since_us, 0)),
    }


def _received(series_ids: bytes, times: bytes, values: bytes) -> Columns:
    return Columns(
        copy.from_joined_elements(series_ids),
        copy.from_joined_elements(times) + copy.PG_EPOCH_US,
        copy.from_joined_elements(values).view(np.float64),
    )


def _rows(entry: Entry) -> Iterator[copy.Piece]:
    """Binary rows, one per shard that occurs; within a shard the order of arrival stays."""
    columns = entry.columns
    shards = (columns.series_ids & (SHARDS - 1)).astype(np.int16)
    # A stable sort of 16-bit integers is a radix sort: linear, and arrival order survives.
    by_shard = columns.picked(np.argsort(shards, kind="stable"))
    times = by_shard.times_us - copy.PG_EPOCH_US
    ends = np.cumsum(np.bincount(shards, minlength=SHARDS)).tolist()
    arrays = (
        (copy.INT8_OID, memoryview(copy.to_elements(by_shard.series_ids).tobytes())),
        (copy.TIMESTAMPTZ_OID, memoryview(copy.to_elements(times).tobytes())),
        (copy.FLOAT8_OID, memoryview(copy.to_elements(by_shard.values.view(np.int64)).tobytes())),
    )
    arrived = entry.at_us - copy.PG_EPOCH_US
    size = copy.ELEMENT.itemsize
    start = 0
    for shard, end in enumerate(ends):
        if end == start:
            continue
        earliest, latest = int(times[start:end].min()), int(times[start:end].max())
        yield _ROW_HEAD.pack(
            *(len(COLUMNS), 2, shard, 8, entry.writer, 8, entry.seq),
            *(8, arrived, 8, earliest, 8, latest, 4, end - start),
        )
        for oid, elements in arrays:
            yield from _array(oid, elements[start * size : end * size])
        start = end


def _array(oid: int, elements: memoryview) -> Iterator[copy.Piece]:
    count = len(elements) // copy.ELEMENT.itemsize
    yield _FIELD_LENGTH.pack(copy.ARRAY_HEADER.size + len(elements))
    yield copy.ARRAY_HEADER.pack(1, 0, oid, count, 1)
    yield elements
