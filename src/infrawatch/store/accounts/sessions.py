"""Sessions of signed-in users and their expiry; only digests of their secrets are stored."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FORGET = text("""
DELETE FROM sessions
WHERE expires_at < clock_timestamp() OR used_at < clock_timestamp() - CAST(:idle AS interval)
""")

_ADD = text("""
INSERT INTO sessions (id, digest, tenant_id, name, scopes, way, key_id, expires_at)
VALUES (:id, :digest, :tenant, :name, CAST(:scopes AS text[]), :way, :key_id,
    least(clock_timestamp() + CAST(:life AS interval), CAST(:until AS timestamptz)))
RETURNING expires_at
""")

_COLUMNS = "id, digest, tenant_id, name, scopes, way, key_id, created_at, used_at, expires_at"

_FIND = text(f"""
SELECT {_COLUMNS} FROM sessions
WHERE id = :id AND expires_at > clock_timestamp()
    AND used_at > clock_timestamp() - CAST(:idle AS interval)
""")

_LIST = text(f"""
SELECT {_COLUMNS} FROM sessions
WHERE expires_at > clock_timestamp()
    AND used_at > clock_timestamp() - CAST(:idle AS interval)
ORDER BY created_at, id
""")

# Writes at most once per interval and session, whatever the number of requests.
_NOTE_USE = text("""
UPDATE sessions SET used_at = clock_timestamp()
WHERE id = :id AND used_at < clock_timestamp() - CAST(:every AS interval)
""")

_END = text("DELETE FROM sessions WHERE id = :id RETURNING tenant_id")
_END_OF_WAY = text("DELETE FROM sessions WHERE way = :way")


class NewSession(NamedTuple):
    """A session to store; `way` is the sign-in method, `key_id` the API key used, if any."""

    id: str
    digest: bytes
    tenant_id: int
    name: str
    scopes: Sequence[str]
    way: str
    key_id: str | None


class StoredSession(NamedTuple):
    id: str
    digest: bytes
    tenant_id: int
    name: str
    scopes: Sequence[str]
    way: str
    key_id: str | None
    created_at: datetime
    used_at: datetime
    expires_at: datetime


class SessionRepository:
    """Stores sessions; `idle` is how long a session may stay unused before it expires."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def forget(self, idle: timedelta) -> None:
        """Remove expired sessions."""
        await self._connection.execute(_FORGET, {"idle": idle})

    async def add(self, session: NewSession, life: timedelta, until: datetime | None) -> datetime:
        """Store a session for `life`, but not beyond `until`; return when it expires."""
        values = {**session._asdict(), "scopes": list(session.scopes)}
        values |= {"tenant": values.pop("tenant_id"), "life": life, "until": until}
        ends: datetime = (await self._connection.execute(_ADD, values)).scalar_one()
        return ends

    async def find(self, session_id: str, idle: timedelta) -> StoredSession | None:
        """Return a session, unless it has expired."""
        found = await self._connection.execute(_FIND, {"id": session_id, "idle": idle})
        row = found.one_or_none()
        return None if row is None else StoredSession(*row)

    async def list(self, idle: timedelta) -> Sequence[StoredSession]:
        """Return the unexpired sessions of all tenants, the oldest first."""
        rows = await self._connection.execute(_LIST, {"idle": idle})
        return [StoredSession(*row) for row in rows]

    async def note_use(self, session_id: str, every: timedelta) -> None:
        """Record that a session is in use, unless that was recorded less than `every` ago."""
        await self._connection.execute(_NOTE_USE, {"id": session_id, "every": every})

    async def end(self, session_id: str) -> int | None:
        """End a session; return the id of its tenant, or None if the session does not exist."""
        found = await self._connection.execute(_END, {"id": session_id})
        tenant_id: int | None = found.scalar_one_or_none()
        return tenant_id

    async def end_of_way(self, way: str) -> int:
        """End all sessions of a sign-in method; return how many."""
        return (await self._connection.execute(_END_OF_WAY, {"way": way})).rowcount
