"""SQL users: PostgreSQL roles that see the data of one tenant and nothing else."""

import base64
import hmac
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import pbkdf2_hmac, sha256
from typing import NamedTuple

import structlog
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import AlreadyExists, Forbidden, NotFound

log = structlog.get_logger()

SCHEMA = "infrawatch_sql"

PREFIX = "infrawatch_"
"""Prefix of the roles' names, as roles belong to the whole server and not to one database."""

CONNECTIONS = 20

_ITERATIONS = 4096
"""PostgreSQL's own default (scram_iterations); the password is 256 random bits anyway."""

_INSUFFICIENT_PRIVILEGE = "42501"
_DUPLICATE_OBJECT = "42710"
_DEPENDENT_OBJECTS = "2BP01"

# Users may change these settings for themselves; they only prevent accidental harm.
_DEFAULTS = {
    "search_path": SCHEMA,
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",  # compiling these views takes longer than running most queries
}

_GRANTS = (
    f"USAGE ON SCHEMA {SCHEMA}",
    f"SELECT ON ALL TABLES IN SCHEMA {SCHEMA}",
    f"EXECUTE ON ALL FUNCTIONS IN SCHEMA {SCHEMA}",
)

_ADD = text("""
INSERT INTO sql_users (role, tenant_id, created_by)
VALUES (CAST(:role AS name), :tenant, :created_by)
""")

_REMOVE = text("DELETE FROM sql_users WHERE role = CAST(:role AS name) RETURNING tenant_id")

_LIST = text("""
SELECT u.role::text, t.name, u.created_at, u.created_by
FROM sql_users u JOIN tenants t ON t.id = u.tenant_id ORDER BY t.name, u.role
""")

# Waits for the end of each, as temporary tables keep a role from being dropped.
_END_CONNECTIONS = text("""
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE usename = CAST(:role AS name)
""")


class SqlUser(NamedTuple):
    role: str
    tenant: str
    created_at: datetime
    created_by: str


class SqlUserRepository:
    """Names must match `[a-z][a-z0-9_]*`, as they are put into statements unquoted."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, name: str, tenant_id: int, created_by: str) -> str:
        """Create a role that sees a tenant; return its password, which cannot be retrieved later.

        Raises:
            AlreadyExists: PostgreSQL has a role of this name.
            Forbidden: the database user may not create roles.
        """
        role, password = PREFIX + name, secrets.token_urlsafe(32)
        async with _explained(f"create the role {role}"):
            # Sends the verifier instead of the password, so that the server never logs the latter.
            await self._run(
                f"CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {CONNECTIONS} "
                f"PASSWORD '{_to_verifier(password)}'"
            )
            for setting, value in _DEFAULTS.items():
                await self._run(f"ALTER ROLE {role} SET {setting} = '{value}'")
            for grant in _GRANTS:
                await self._run(f"GRANT {grant} TO {role}")
        values = {"role": role, "tenant": tenant_id, "created_by": created_by}
        await self._connection.execute(_ADD, values)
        return password

    async def drop(self, name: str) -> int:
        """Drop a role and end its connections; return the id of its tenant.

        A role that owns something, such as large objects, remains, but can do nothing any more.

        Raises:
            NotFound: there is no such SQL user.
            Forbidden: the database user may not drop roles.
        """
        role = PREFIX + name
        found = await self._connection.execute(_REMOVE, {"role": role})
        tenant_id: int | None = found.scalar_one_or_none()
        if tenant_id is None:
            raise NotFound(f"there is no SQL user {name!r}; `infrawatch sql-users list` shows all")
        async with _explained(f"drop the role {role}"):
            await self._run(f"ALTER ROLE {role} NOLOGIN")
            await self._connection.execute(_END_CONNECTIONS, {"role": role})
            for grant in reversed(_GRANTS):
                await self._run(f"REVOKE {grant} FROM {role}")
            await self._drop_role(role)
        return tenant_id

    async def _drop_role(self, role: str) -> None:
        try:
            async with self._connection.begin_nested():
                await self._run(f"DROP ROLE {role}")
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _DEPENDENT_OBJECTS:
                raise
            # Otherwise users could prevent the end of their access.
            then = f"in each database: DROP OWNED BY {role}; then: DROP ROLE {role}"
            log.warning("role_without_access_remains", role=role, why="it owns objects", then=then)

    async def list(self) -> Sequence[SqlUser]:
        """Return all SQL users, by tenant and name."""
        return [SqlUser(*row) for row in await self._connection.execute(_LIST)]

    async def _run(self, statement: str) -> None:
        # Not through text(), which would take the colons of a verifier for parameters.
        await self._connection.exec_driver_sql(statement)


def to_user_url(url: str, name: str, password: str) -> str:
    """Return the URL of the database with the credentials of an SQL user."""
    parsed = make_url(url).set(drivername="postgresql", username=PREFIX + name, password=password)
    return parsed.render_as_string(hide_password=False)


@asynccontextmanager
async def _explained(what: str) -> AsyncGenerator[None, None]:
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state == _DUPLICATE_OBJECT:
            raise AlreadyExists(
                f"cannot {what}: PostgreSQL has it already; choose another name"
            ) from None
        if state == _INSUFFICIENT_PRIVILEGE:
            raise Forbidden(
                f"cannot {what}: the user of INFRAWATCH_DATABASE_URL needs CREATEROLE, and to own "
                f"the schema {SCHEMA}"
            ) from None
        raise


def _to_verifier(password: str) -> str:
    """Return the verifier PostgreSQL stores for a password (RFC 5803; scram-common.c)."""
    salt = secrets.token_bytes(16)
    salted = pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(one).decode("ascii") for one in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{texts[0]}${texts[1]}:{texts[2]}"
