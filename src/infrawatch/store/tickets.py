"""Tickets: one minute, one use, on any server."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# What nobody used goes with the next one that is made.
_FORGET = text("DELETE FROM live_tickets WHERE expires_at < clock_timestamp()")

_ADD = text("""
INSERT INTO live_tickets (digest, tenant_id, name, scopes, key_id, expires_at)
VALUES (:digest, :tenant, :name, CAST(:scopes AS text[]), :key_id,
    clock_timestamp() + CAST(:life AS interval))
""")

# Of two that bring the same ticket, one deletes it and the other finds nothing.
_USE = text("""
DELETE FROM live_tickets WHERE digest = :digest AND expires_at > clock_timestamp()
RETURNING tenant_id, name, scopes, key_id
""")


class Bearer(NamedTuple):
    """On whose behalf a ticket may be used."""

    tenant_id: int
    name: str
    scopes: list[str]
    key_id: str | None


class TicketRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, digest: bytes, bearer: Bearer, life: timedelta) -> None:
        """Keep a ticket's digest for as long as it may be used."""
        await self._connection.execute(_FORGET)
        await self._connection.execute(
            _ADD,
            {
                "digest": digest,
                "tenant": bearer.tenant_id,
                "name": bearer.name,
                "scopes": bearer.scopes,
                "key_id": bearer.key_id,
                "life": life,
            },
        )

    async def use(self, digest: bytes) -> Bearer | None:
        """Take a ticket, which is gone then; None if there is none, or it has expired."""
        row = (await self._connection.execute(_USE, {"digest": digest})).one_or_none()
        return None if row is None else Bearer(*row)
