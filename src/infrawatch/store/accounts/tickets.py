"""Tickets: valid for one minute and one use, on any server."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Unused tickets are removed when the next one is created.
_FORGET = text("DELETE FROM live_tickets WHERE expires_at < clock_timestamp()")

_ADD = text("""
INSERT INTO live_tickets
    (digest, tenant_id, name, scopes, key_id, session_id, good_until, expires_at)
VALUES (:digest, :tenant, :name, CAST(:scopes AS text[]), :key_id, :session_id, :good_until,
    clock_timestamp() + CAST(:life AS interval))
""")

# Of two requests with the same ticket, one deletes it and the other finds nothing.
_USE = text("""
DELETE FROM live_tickets WHERE digest = :digest AND expires_at > clock_timestamp()
RETURNING tenant_id, name, scopes, key_id, session_id, good_until
""")


class Bearer(NamedTuple):
    """The principal on whose behalf a ticket may be used."""

    tenant_id: int
    name: str
    scopes: list[str]
    key_id: str | None
    session_id: str | None
    good_until: datetime | None


class TicketRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, digest: bytes, bearer: Bearer, life: timedelta) -> None:
        """Store a ticket's digest for `life`, and remove expired tickets."""
        await self._connection.execute(_FORGET)
        values = {**bearer._asdict(), "digest": digest, "life": life}
        values["tenant"] = values.pop("tenant_id")
        await self._connection.execute(_ADD, values)

    async def use(self, digest: bytes) -> Bearer | None:
        """Consume a ticket; return None if it does not exist or has expired."""
        row = (await self._connection.execute(_USE, {"digest": digest})).one_or_none()
        return None if row is None else Bearer(*row)
