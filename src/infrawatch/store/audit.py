"""The audit trail: who changed what of those who may ask."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

_ADD = text("""
INSERT INTO audit (tenant_id, actor, actor_key_id, action, target, detail)
VALUES (:tenant, :actor, :actor_key, :action, :target, CAST(:detail AS jsonb))
""")

# Newest first along audit_tenant for one tenant; of all there are so few that they may be sorted.
# A page begins at a time: a number would tell a tenant how much others change.
_LIST = """
SELECT a.at, coalesce(t.name, a.tenant_id::text), a.actor, a.actor_key_id, a.action, a.target,
    a.detail
FROM audit a LEFT JOIN tenants t ON t.id = a.tenant_id
WHERE {of_tenant} a.at < :before
ORDER BY a.at DESC, a.id DESC LIMIT :limit
"""
_LIST_ALL = text(_LIST.format(of_tenant=""))
_LIST_TENANT = text(_LIST.format(of_tenant="a.tenant_id = :tenant AND"))


class Actor(NamedTuple):
    """Who does something: a name for people, and the id of the key, if it was one."""

    name: str
    key_id: str | None = None

    @override
    def __str__(self) -> str:
        return self.name if self.key_id is None else f"{self.name} ({self.key_id})"


class Act(NamedTuple):
    """What was done: `action` is a noun and a verb (`key.created`), `target` an id."""

    tenant_id: int
    action: str
    target: str
    detail: Mapping[str, object]


class AuditEntry(NamedTuple):
    """One line of the trail; `tenant` is the name of the tenant it is about."""

    at: datetime
    tenant: str
    actor: str
    actor_key_id: str | None
    action: str
    target: str
    detail: Mapping[str, object]


class AuditRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, actor: Actor, act: Act) -> None:
        """Record an act in the transaction that does it: both are there, or neither is."""
        await self._connection.execute(
            _ADD,
            {
                "tenant": act.tenant_id,
                "actor": actor.name,
                "actor_key": actor.key_id,
                "action": act.action,
                "target": act.target,
                "detail": to_json(act.detail).decode(),
            },
        )

    async def list(
        self, tenant_id: int | None, *, before: datetime, limit: int
    ) -> Sequence[AuditEntry]:
        """Entries from before a time, newest first, of one tenant or of all."""
        wanted = {"before": before, "limit": limit}
        if tenant_id is None:
            rows = await self._connection.execute(_LIST_ALL, wanted)
        else:
            rows = await self._connection.execute(_LIST_TENANT, {**wanted, "tenant": tenant_id})
        return [AuditEntry(*row) for row in rows]
