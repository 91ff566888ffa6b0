"""How much a tenant, or one key of it, may do, as it is stored."""

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
    """None is no limit. `query_…` are what one question may read, the others are for all at once.

    `active_series` is for tenants: of a key it is not looked at.
    """

    requests_per_s: float | None = None
    samples_per_s: float | None = None
    active_series: int | None = None
    live_connections: int | None = None
    query_samples: int | None = None
    query_series: int | None = None


class Holder(NamedTuple):
    """Whose limits: a tenant's, or those of one of its keys."""

    tenant_id: int
    key_id: str | None = None


class StoredLimits(NamedTuple):
    holder: Holder
    tenant: str
    limits: Limits


class LimitRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self, tenant_id: int | None = None) -> Sequence[StoredLimits]:
        """Limits of a tenant and its keys, or of all of them, tenants by name."""
        rows = await self._connection.execute(_LIST, {"tenant": tenant_id})
        return [
            StoredLimits(Holder(row.tenant_id, row.key_id), row.tenant, Limits(*row[3:]))
            for row in rows
        ]

    async def put(self, holder: Holder, limits: Limits) -> None:
        """Let these be the limits of a tenant or key, whatever they were."""
        values = {"tenant": holder.tenant_id, "key": holder.key_id or "", **limits._asdict()}
        await self._connection.execute(_PUT, values)

    async def remove(self, holder: Holder) -> bool:
        """Let there be no limits of its own; False if there were none."""
        values = {"tenant": holder.tenant_id, "key": holder.key_id or ""}
        return (await self._connection.execute(_REMOVE, values)).rowcount > 0
