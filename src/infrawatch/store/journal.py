"""The journal: recently committed samples as they arrived, in rows by group and shard."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns
from infrawatch.model.timerange import from_us
from infrawatch.store.columns.varbits import to_sent
from infrawatch.store.connections import to_driver
from infrawatch.store.journal_rows import Group, from_packed
from infrawatch.store.writers import Fenced

# A single statement and, outside an open transaction, a transaction of its own. Separate BEGIN,
# UPDATE of the writer, COPY and COMMIT cost the server and PostgreSQL more than storing the samples
# did (docs/decisions/0011).
_APPEND = """
SELECT (extract(epoch FROM append_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
    $14, $15, $16))
    * 1000000)::bigint
"""

# Reads only rows of one shard, through its index.
_ARRIVAL = text("""
SELECT (extract(epoch FROM arrived_at) * 1000000)::bigint
FROM journal WHERE shard = :shard AND writer = :writer AND seq = :seq LIMIT 1
""")

_PACKED = [to_sent(f"j.{column}") for column in ("series_ids", "times", '"values"')]
_PACKED_FIELDS = ", ".join(_PACKED)
_JOINED_FIELDS = ", ".join(f"string_agg({field}, '')" for field in _PACKED)

# The rows of a group are small, so PostgreSQL concatenates five minutes of them: fetching them one
# by one would cost more than everything else. It works shard by shard, so that each sort fits in
# memory. The inner ORDER BY starts with the GROUP BY key: otherwise PostgreSQL sorts a second time,
# and a sort that spills to disk is not stable.
JOINED = f"""
SELECT h.shard, joined.*
FROM shards h {{join}}
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
"""Uncompacted samples in order of arrival: the shard, then the fields `from_packed` takes.

Rows of one shard are consecutive. `join` restricts the shards, `condition` the journal's rows.
"""

UNCOMPACTED = """
FROM shards h CROSS JOIN LATERAL (
    SELECT * FROM journal WHERE shard = h.shard AND arrived_at >= h.compacted_until OFFSET 0
) AS j
"""
"""Uncompacted rows, read with one probe of (shard, arrived_at) per shard and slot.

The journal is never analyzed, so PostgreSQL might read all of it for a plain join.
"""

# One probe of (shard, arrived_at) per shard and slot.
_BEYOND = """
FROM journal j
LEFT JOIN unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS known (writer, seq)
    ON known.writer = j.writer
WHERE j.shard IN (SELECT shard FROM shards) AND j.arrived_at >= :since
    AND j.seq > coalesce(known.seq, 0)
"""

# Rows of one group are consecutive.
_REPLAY = text(f"""
SELECT j.writer, j.seq, (extract(epoch FROM j.arrived_at) * 1000000)::bigint, {_PACKED_FIELDS}
{_BEYOND}
ORDER BY j.arrived_at, j.writer, j.seq, j.shard, j.first
""")

_FIRST_BEYOND = text(f"""
SELECT (extract(epoch FROM min(j.arrived_at)) * 1000000)::bigint
{_BEYOND}
""")

# The oldest row of each shard is the first entry of its index. Uncompacted rows are never removed,
# so a journal that is new, or empty because no samples arrive, has lost nothing.
_FLOOR = text("""
SELECT (extract(epoch FROM least(min(oldest.arrived_at), max(h.compacted_until))) * 1000000)::bigint
FROM shards h
CROSS JOIN LATERAL (
    SELECT min(arrived_at) AS arrived_at FROM journal j WHERE j.shard = h.shard
) AS oldest
""")


class Entry(NamedTuple):
    """One group in the journal: the writer's commit number `seq`, which arrived at `at_us`."""

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
        """Store one group as the writer's commit number `seq`; return its time of arrival in µs.

        The time is read from the database's clock and is never earlier than what compaction has
        passed. The group is stored completely or not at all, in the open transaction or else in one
        of its own.

        Raises:
            Fenced: the writer was fenced, or its last commit was not `seq - 1`; or the database's
                clock was past `not_after` when the statement ran, which also fences the writer.
        """
        driver = to_driver(self.connection)
        # SQLAlchemy opens its transaction with the first statement it executes itself: a statement
        # sent to the driver directly belongs to that transaction only afterwards.
        assert driver.is_in_transaction() == self.connection.in_transaction()
        at_us: int | None = await driver.fetchval(
            _APPEND, writer, seq, *Group.of(columns), not_after
        )
        if at_us is None:
            raise Fenced(f"writer {writer}")
        return at_us

    async def find_arrival(self, writer: int, seq: int, columns: Columns) -> int:
        """Return the time of arrival, in µs, of a group that is stored."""
        parameters = {
            "shard": int(columns.series_ids[0]) & SHARDS - 1,
            "writer": writer,
            "seq": seq,
        }
        return int((await self.connection.execute(_ARRIVAL, parameters)).scalar_one())

    async def replay(
        self, seqs: Mapping[int, int], *, since_us: int
    ) -> AsyncGenerator[Entry, None]:
        """Yield the entries after `seqs` that arrived since `since_us`, in order of arrival.

        Writers missing from `seqs` are read from their first entry.
        """
        rows = await self.connection.stream(_REPLAY, _to_parameters(seqs, since_us))
        head: tuple[int, int, int] | None = None
        parts: list[Sequence[bytes]] = []
        async for writer, seq, at_us, *sent in rows:
            if head != (writer, seq, at_us):
                if head is not None:
                    yield Entry(*head, from_packed(*parts))
                head, parts = (writer, seq, at_us), []
            parts.append(sent)
        if head is not None:
            yield Entry(*head, from_packed(*parts))

    async def find_first_beyond(self, seqs: Mapping[int, int], *, since_us: int) -> int | None:
        """Return the arrival, in µs, of the first entry `replay` would yield; None if none."""
        answer = await self.connection.execute(_FIRST_BEYOND, _to_parameters(seqs, since_us))
        at_us: int | None = answer.scalar_one()
        return at_us

    async def floor(self) -> int:
        """Return the time, in µs, since which the journal still holds every arrival."""
        return int((await self.connection.execute(_FLOOR)).scalar_one())


def _to_parameters(seqs: Mapping[int, int], since_us: int) -> dict[str, object]:
    return {
        "writers": list(seqs),
        "seqs": list(seqs.values()),
        "since": from_us(max(since_us, 0)),
    }
