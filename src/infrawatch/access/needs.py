"""Scopes that routes need: `principal: MayWrite` enforces one, and documents it in OpenAPI."""

from typing import Annotated, Final

from fastapi import Depends, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from typing_extensions import override

from infrawatch.access.access import Access
from infrawatch.access.principal import DEFAULT_TENANT_ID, EVERYBODY, Principal, Scope
from infrawatch.errors import Forbidden
from infrawatch.store.database import Database

SCHEME: Final = "bearer"
"""The name of the security scheme; access/openapi.py adds the other forms to the document."""


class Needs(SecurityBase):
    """A dependency: the principal of the request, which must have a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scheme_name = SCHEME
        self.model = HTTPBearer(description="An API key.", bearerFormat="iw_<id>_<secret>")
        self._scope = scope

    async def __call__(self, connection: HTTPConnection) -> Principal:
        access: Access = connection.scope["state"]["access"]
        return await access.gate.admit(connection, self._scope)


WRITE = Security(Needs("write"), scopes=["write"])
READ = Security(Needs("read"), scopes=["read"])
ADMIN = Security(Needs("admin"), scopes=["admin"])


class _NeedsForMetrics(Needs):
    """Metrics cover all tenants, so they are for the default tenant, or public."""

    @override
    async def __call__(self, connection: HTTPConnection) -> Principal:
        access: Access = connection.state.access
        if access.are_metrics_open:
            return EVERYBODY
        principal = await super().__call__(connection)
        if principal.tenant_id != DEFAULT_TENANT_ID:
            raise Forbidden(
                "the server's metrics are of all tenants: use a key of the tenant default, or set "
                "INFRAWATCH_METRICS=open"
            )
        return principal


MayWrite = Annotated[Principal, WRITE]
MayRead = Annotated[Principal, READ]
MayAdministrate = Annotated[Principal, ADMIN]
MaySeeMetrics = Annotated[Principal, Security(_NeedsForMetrics("read"), scopes=["read"])]


async def _access(connection: HTTPConnection) -> Access:  # async, as plain functions run in threads
    access: Access = connection.state.access
    return access


async def _database(connection: HTTPConnection) -> Database:
    access: Access = connection.state.access
    return access.database


TheAccess = Annotated[Access, Depends(_access)]
TheDatabase = Annotated[Database, Depends(_database)]
