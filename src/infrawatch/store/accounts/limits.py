"""Stored limits of tenants and of their API keys."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_LIST = text("""
SELECT l.tenant_id, t.name AS tenant, nullif(l.key_id, '') AS key_id, l.requests_per_s,
    l.samples_per_s, l.active_series, l.live_connections, l.query_samples, l.query_series
FROM limits l JOIN tenants t ON t.id = l.tenant_id
WHERE CAST(:tenant AS integer) IS NULL OR l.tenant_id = CAST(:tenant AS integer)
ORDER BY t.name, l.key_id
""")

_PUT = text("""
INSERT INTO limits (tenant_id, key_id, requests_per_s, samples_per_s, active_series,
    live_connections, query_samples, query_series)
VALUES (:tenant, :key, :requests_per_s, :samples_per_s, :active_series, :live_connections,
    :query_samples, :query_series)
ON CONFLICT (tenant_id, key_id) DO UPDATE SET
    requests_per_s = excluded.requests_per_s, samples_per_s = excluded.samples_per_s,
    active_series = excluded.active_series, live_connections = excluded.live_connections,
    query_samples = excluded.query_samples, query_series = excluded.query_series
""")

_REMOVE = text("DELETE FROM limits WHERE tenant_id = :tenant AND key_id = :key")


class Limits(NamedTuple):
    """None means no limit. `query_…` limit what a single query reads, the others apply in total.

    `active_series` applies to tenants and is ignored for keys.
    """

    requests_per_s: float | None = None
    samples_per_s: float | None = None
    active_series: int | None = None
    live_connections: int | None = None
    query_samples: int | None = None
    query_series: int | None = None


class Holder(NamedTuple):
    """The holder of limits: a tenant, or one of its keys."""

    tenant_id: int
    key_id: str | None = None

    @property
    def name(self) -> str:
        """Identifies the holder in counters and in the audit trail."""
        return f"tenant:{self.tenant_id}" if self.key_id is None else f"key:{self.key_id}"


class StoredLimits(NamedTuple):
    holder: Holder
    tenant: str
    limits: Limits


class LimitRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self, tenant_id: int | None = None) -> Sequence[StoredLimits]:
        """Return the limits of one tenant and its keys, or of all tenants, ordered by name."""
        rows = await self._connection.execute(_LIST, {"tenant": tenant_id})
        return [
            StoredLimits(Holder(row.tenant_id, row.key_id), row.tenant, Limits(*row[3:]))
            for row in rows
        ]

    async def put(self, holder: Holder, limits: Limits) -> None:
        """Set the limits of a tenant or key, replacing earlier ones."""
        values = {"tenant": holder.tenant_id, "key": holder.key_id or "", **limits._asdict()}
        await self._connection.execute(_PUT, values)

    async def remove(self, holder: Holder) -> bool:
        """Remove the holder's own limits; return False if it had none."""
        values = {"tenant": holder.tenant_id, "key": holder.key_id or ""}
        return (await self._connection.execute(_REMOVE, values)).rowcount > 0
