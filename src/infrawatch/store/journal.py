"""The journal: what was committed lately, one row per group and shard, in the shape it arrived."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns
from infrawatch.model.timerange import from_us
from infrawatch.store.bits import to_sent
from infrawatch.store.connections import to_driver
from infrawatch.store.journal_rows import Group, from_packed
from infrawatch.store.writers import Fenced

# One statement, and where it stands alone one transaction: to begin, advance the writer, copy and
# commit one after the other cost both sides more than what they stored (docs/decisions/0011).
_APPEND = """
SELECT (extract(epoch FROM append_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
    $14, $15, $16))
    * 1000000)::bigint
"""

# Rows of one shard, from its index.
_ARRIVAL = text("""
SELECT (extract(epoch FROM arrived_at) * 1000000)::bigint
FROM journal WHERE shard = :shard AND writer = :writer AND seq = :seq LIMIT 1
""")

_PACKED = [to_sent(f"j.{column}") for column in ("series_ids", "times", '"values"')]
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

    async def append(
        self, writer: int, seq: int, columns: Columns, *, not_after: datetime | None = None
    ) -> int:
        """Store one group, in order of arrival, as the writer's `seq`-th; when it arrives, in µs.

        It is the database's clock that counts, and no compaction has passed that moment yet. All of
        it is stored or nothing, by a transaction of its own or in the one that is open.

        Raises:
            Fenced: someone closed this writer, or its last commit was not `seq - 1`; or it was past
                `not_after` by that clock when its turn came, and now the writer is closed.
        """
        driver = to_driver(self.connection)
        # What goes past SQLAlchemy is in its transaction only if it has opened that by executing.
        assert driver.is_in_transaction() == self.connection.in_transaction()
        at_us: int | None = await driver.fetchval(
            _APPEND, writer, seq, *Group.of(columns), not_after
        )
        if at_us is None:
            raise Fenced(f"writer {writer}")
        return at_us

    async def find_arrival(self, writer: int, seq: int, columns: Columns) -> int:
        """When a group that is stored arrived, in µs."""
        wanted = {"shard": int(columns.series_ids[0]) & SHARDS - 1, "writer": writer, "seq": seq}
        return int((await self.connection.execute(_ARRIVAL, wanted)).scalar_one())

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
