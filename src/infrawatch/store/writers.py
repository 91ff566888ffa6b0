"""Writers: who commits, and how often each has; what makes commits countable without holes."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.cursor import Cursor

_REGISTER = text("INSERT INTO writers DEFAULT VALUES RETURNING writer")

# Takes the row's lock until the commit: a fence waits for it, so does compaction's cut.
_ADVANCE = text("""
UPDATE writers SET last_seq = :seq WHERE writer = :writer AND last_seq = :seq - 1 AND NOT fenced
RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
""")

# Waits for a transaction that still holds the row, so what it returns is final.
_FENCE = text("UPDATE writers SET fenced = true WHERE writer = :writer RETURNING last_seq")

_REACHED = text("""
SELECT count(*)
FROM unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS wanted (writer, seq)
JOIN writers USING (writer) WHERE writers.last_seq >= wanted.seq
""")


@dataclass(frozen=True, slots=True)
class Fenced(Exception):  # a condition between store and ingest, not an answer
    """This writer may not commit any more; take a new one."""

    writer: int


class WriterRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def register(self) -> int:
        """Take a new writer, whose next seq is 1."""
        return int((await self._connection.execute(_REGISTER)).scalar_one())

    async def advance(self, writer: int, seq: int) -> int:
        """Make this transaction the writer's `seq`-th; answer the database's clock in µs.

        Raises:
            Fenced: someone closed this writer, or its last commit was not `seq - 1`.
        """
        answer = await self._connection.execute(_ADVANCE, {"writer": writer, "seq": seq})
        at_us: int | None = answer.scalar_one_or_none()
        if at_us is None:
            raise Fenced(writer)
        return at_us

    async def fence(self, writer: int) -> int:
        """Let the writer never commit again; answer the seq of its last commit.

        Waits until a transaction of that writer, if there still is one, has ended.
        """
        return int((await self._connection.execute(_FENCE, {"writer": writer})).scalar_one())

    async def has_reached(self, cursor: Cursor) -> bool:
        """Whether everything the cursor names is visible in this snapshot."""
        wanted = {"writers": list(cursor.seqs), "seqs": list(cursor.seqs.values())}
        answer = await self._connection.execute(_REACHED, wanted)
        return bool(answer.scalar_one() == len(cursor.seqs))
