"""The journal: what was committed lately, one row per group and shard, in the shape it arrived."""

import struct
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store import copy
from infrawatch.store.ragged import Bools

COLUMNS = (
    "writer",
    "seq",
    "arrived_at",
    "min_at",
    "max_at",
    "first",
    "samples",
    "shard",
    "series_ids",
    "times",
    "values",
    "odd",
)

ROW_SAMPLES = 320
"""Of 24 bytes each, so that a row fits PostgreSQL's page of 8 kB with all that is said of it."""

_ROW_HEAD = struct.Struct(">h iq iq iq iq iq ii ii ih")
"""Number of fields, then those before the samples, each after its length."""

_BITS_HEAD = struct.Struct(">ii")
"""Of a `bit varying`: its length in bytes, with the length in bits that follows."""

_NO_ODD = struct.pack(">i", -1)

_LEAST_EXPONENT = 53
"""Of a double whose parts SQL can put together again; from 2047 on it is infinite or no number."""

_EXPONENTS = 2047


# `varbit_send` begins with the number of bits.
_PACKED = [f"substr(varbit_send(j.{column}), 5)" for column in ("series_ids", "times", '"values"')]
_PACKED_FIELDS = ", ".join(_PACKED)
_JOINED_FIELDS = ", ".join(f"string_agg({field}, '')" for field in _PACKED)

# A group's rows are small, so PostgreSQL joins five minutes of them; fetching them one by one would
# cost more than all the rest. It does so for one shard after the other, which keeps what it sorts
# in memory. The inner order begins with what is grouped by: else PostgreSQL sorts once more, and
# its sort mixes up equals when it spills to disk.
JOINED = f"""
SELECT h.shard, joined.*
FROM shards h {{wanted}}
CROSS JOIN LATERAL (
    SELECT {_JOINED_FIELDS}
    FROM (
        SELECT j.*, date_bin(interval '5 minutes', j.arrived_at, timestamptz 'epoch') AS part
        FROM journal j
        WHERE j.shard = h.shard AND j.arrived_at >= h.compacted_until {{condition}}
        ORDER BY part, j.arrived_at, j.writer, j.seq, j.first
    ) AS j
    GROUP BY part ORDER BY part
) AS joined
WHERE h.shard = ANY(CAST(:shards AS smallint[]))
"""
"""What waits for compaction, in order of arrival: a shard and samples as `from_packed` takes them.

Rows of one shard come one after the other. They may be narrowed down to those with a `condition`.
"""

UNCOMPACTED = """
FROM shards h CROSS JOIN LATERAL (
    SELECT * FROM journal WHERE shard = h.shard AND arrived_at >= h.compacted_until OFFSET 0
) AS j
"""
"""What waits for compaction, one probe of (shard, arrived_at) per shard and slot.

Nothing counts what the journal holds, so for a plain join PostgreSQL may read all of it.
"""

# One probe of (shard, arrived_at) per shard and slot; rows of one group are neighbours.
_REPLAY = text(f"""
SELECT j.writer, j.seq, (extract(epoch FROM j.arrived_at) * 1000000)::bigint, {_PACKED_FIELDS}
FROM journal j
LEFT JOIN unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS known (writer, seq)
    ON known.writer = j.writer
WHERE j.shard IN (SELECT shard FROM shards) AND j.arrived_at >= :since
    AND j.seq > coalesce(known.seq, 0)
ORDER BY j.arrived_at, j.writer, j.seq, j.shard, j.first
""")

# The same rows, but not their samples.
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
            parts.append(from_packed(sent))
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


def from_packed(sent: Sequence[bytes]) -> Columns:
    """Read the samples of rows, their three columns joined each by itself."""
    series_ids, times, values = (np.frombuffer(one, ">i8").astype(np.int64) for one in sent)
    times += copy.PG_EPOCH_US
    return Columns(series_ids, times, values.view(np.float64))


def _rows(entry: Entry) -> Iterator[copy.Piece]:
    """Binary rows, each of one shard; within a shard the order of arrival stays."""
    shards = (entry.columns.series_ids & (SHARDS - 1)).astype(np.int16)
    # A stable sort of 16-bit integers is a radix sort: linear, and arrival order survives.
    by_shard = entry.columns.picked(np.argsort(shards, kind="stable"))
    times, bits = by_shard.times_us - copy.PG_EPOCH_US, by_shard.values.view(np.int64)
    cuts = _cuts(np.bincount(shards, minlength=SHARDS))
    starts = np.array([start for _, _, start, _ in cuts], np.intp)
    earliest, latest = (
        extreme.reduceat(times, starts).tolist() for extreme in (np.minimum, np.maximum)
    )
    has_odd = np.logical_or.reduceat(_are_odd(bits), starts).tolist()
    columns = [memoryview(_sent(one)) for one in (by_shard.series_ids, times, bits)]
    arrived = entry.at_us - copy.PG_EPOCH_US
    for row, (shard, first, start, end) in enumerate(cuts):
        yield _ROW_HEAD.pack(
            *(len(COLUMNS), 8, entry.writer, 8, entry.seq, 8, arrived),
            *(8, earliest[row], 8, latest[row], 4, first, 4, end - start, 2, shard),
        )
        bits_head = _BITS_HEAD.pack(4 + 8 * (end - start), 64 * (end - start))
        for column in columns:
            yield bits_head
            yield column[8 * start : 8 * end]
        yield copy.to_array(copy.FLOAT8_OID, bits[start:end]) if has_odd[row] else _NO_ODD


def _cuts(counts: Int64s) -> list[tuple[int, int, int, int]]:
    """Of each row the shard, its place among what the shard has, its start and its end in all."""
    ends = np.cumsum(counts).tolist()
    return [
        (shard, start - ends[shard] + count, start, min(start + ROW_SAMPLES, ends[shard]))
        for shard, count in enumerate(counts.tolist())
        for start in range(ends[shard] - count, ends[shard], ROW_SAMPLES)
    ]


def _sent(numbers: Int64s) -> bytes:
    return numbers.astype(">i8").tobytes()


def _are_odd(bits: Int64s) -> Bools:
    """Where SQL cannot make the double of its bits: infinities, NaN, and what is almost zero."""
    exponents = bits >> 52 & _EXPONENTS
    is_odd: Bools = (exponents < _LEAST_EXPONENT) | (exponents == _EXPONENTS)
    is_odd &= bits << 1 != 0
    return is_odd
