"""SQL users: roles of PostgreSQL that see what one tenant has, and nothing else."""

import base64
import hmac
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import pbkdf2_hmac, sha256
from typing import NamedTuple

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import AlreadyExists, Forbidden, NotFound

SCHEMA = "infrawatch_sql"

PREFIX = "infrawatch_"
"""Of the names of their roles, which are of the whole server and not of one database."""

CONNECTIONS = 20

_ITERATIONS = 4096
"""What PostgreSQL itself takes (scram_iterations); the password is 256 random bits anyway."""

_INSUFFICIENT_PRIVILEGE = "42501"
_DUPLICATE_OBJECT = "42710"

# What a user may set anew for itself; it is there so that nobody does harm unawares.
_DEFAULTS = {
    "search_path": SCHEMA,
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",  # compiling what these views are made of takes longer than most queries
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

_END_CONNECTIONS = text("""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = CAST(:role AS name)
""")


class SqlUser(NamedTuple):
    role: str
    tenant: str
    created_at: datetime
    created_by: str


class SqlUserRepository:
    """Names have passed `[a-z][a-z0-9_]*`, so they stand in statements as they are."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, name: str, tenant_id: int, created_by: str) -> str:
        """Create a role that sees a tenant; gives its password, which nobody can tell again.

        Raises:
            AlreadyExists: PostgreSQL has a role of this name.
            Forbidden: the user of the database may not create roles.
        """
        role, password = PREFIX + name, secrets.token_urlsafe(32)
        async with _explained(f"create the role {role}"):
            # The server gets what it would make of the password, so that none is in its log.
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
        """Drop a role, and cut its connections; gives whose tenant's it was.

        Raises:
            NotFound: it is none of ours.
            Forbidden: the user of the database may not drop roles.
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
            await self._run(f"DROP ROLE {role}")
        return tenant_id

    async def list(self) -> Sequence[SqlUser]:
        """All of them, by tenant and name."""
        return [SqlUser(*row) for row in await self._connection.execute(_LIST)]

    async def _run(self, statement: str) -> None:
        # Past text(), which would take the colons of a verifier for parameters.
        await self._connection.exec_driver_sql(statement)


def to_user_url(url: str, name: str, password: str) -> str:
    """The database's own URL, for an SQL user."""
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
    """What PostgreSQL keeps of a password (RFC 5803; src/common/scram-common.c)."""
    salt = secrets.token_bytes(16)
    salted = pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(one).decode("ascii") for one in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{texts[0]}${texts[1]}:{texts[2]}"
