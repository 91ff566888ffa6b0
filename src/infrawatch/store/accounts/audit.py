"""The audit trail: changes to access, and who made them."""

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

# Newest first: for one tenant along the index audit_tenant, for all tenants by sorting, as there
# are few entries. Pages begin at a time, as a number would show a tenant how much others change.
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
    """Who acts: a name for display, and the id of the API key, if one was used."""

    name: str
    key_id: str | None = None

    @override
    def __str__(self) -> str:
        return self.name if self.key_id is None else f"{self.name} ({self.key_id})"


class Act(NamedTuple):
    """An action: `action` is a noun and a verb (`key.created`), `target` is an id."""

    tenant_id: int
    action: str
    target: str
    detail: Mapping[str, object]


class AuditEntry(NamedTuple):
    """An entry of the audit trail; `tenant` is the name of the tenant concerned."""

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
        """Record an act in the transaction that performs it, so both commit or neither does."""
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
        """Return entries from before a time, newest first, of one tenant or of all."""
        parameters = {"before": before, "limit": limit}
        if tenant_id is None:
            rows = await self._connection.execute(_LIST_ALL, parameters)
        else:
            rows = await self._connection.execute(_LIST_TENANT, {**parameters, "tenant": tenant_id})
        return [AuditEntry(*row) for row in rows]
