"""Tenants: the owners of the data."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import AlreadyExists, NotFound

_ADD = text("""
INSERT INTO tenants (name) VALUES (:name) ON CONFLICT (name) DO NOTHING
RETURNING id, name, created_at
""")
_GET = text("SELECT id, name, created_at FROM tenants WHERE name = :name")
_GET_NAME = text("SELECT name FROM tenants WHERE id = :id")
_LIST = text("SELECT id, name, created_at FROM tenants ORDER BY name")


class Tenant(NamedTuple):
    id: int
    name: str
    created_at: datetime


class TenantRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, name: str) -> Tenant:
        """Create a tenant.

        Raises:
            AlreadyExists: a tenant of this name exists.
        """
        row = (await self._connection.execute(_ADD, {"name": name})).one_or_none()
        if row is None:
            raise AlreadyExists(f"there is a tenant {name} already")
        return Tenant(*row)

    async def get(self, name: str) -> Tenant:
        """Return the tenant with a name.

        Raises:
            NotFound: there is no such tenant.
        """
        row = (await self._connection.execute(_GET, {"name": name})).one_or_none()
        if row is None:
            raise NotFound(
                f"there is no tenant {name!r}: `infrawatch tenants create {name}` makes it"
            )
        return Tenant(*row)

    async def get_name(self, tenant_id: int) -> str:
        """Return the name of a tenant, which must exist, as the tenant of any principal does."""
        found = await self._connection.execute(_GET_NAME, {"id": tenant_id})
        return str(found.scalar_one())

    async def list(self) -> Sequence[Tenant]:
        """Return all tenants, by name."""
        return [Tenant(*row) for row in await self._connection.execute(_LIST)]
