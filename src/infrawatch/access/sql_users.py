"""Making and dropping SQL users, each together with its line in the audit trail."""

import structlog

from infrawatch.store.audit import Act, Actor, AuditRepository
from infrawatch.store.database import Database
from infrawatch.store.sql_users import SqlUserRepository
from infrawatch.store.tenants import TenantRepository

log = structlog.get_logger()


async def create_sql_user(database: Database, name: str, tenant: str, actor: Actor) -> str:
    """Create a role of PostgreSQL that sees a tenant; gives its password, for the only time.

    Raises:
        NotFound: there is no such tenant.
        AlreadyExists: there is such a role.
        Forbidden: we may not create roles.
    """
    async with database.writing() as connection:
        tenant_id = (await TenantRepository(connection).get(tenant)).id
        password = await SqlUserRepository(connection).add(name, tenant_id, str(actor))
        await AuditRepository(connection).add(actor, Act(tenant_id, "sql_user.created", name, {}))
    log.info("audit", actor=str(actor), action="sql_user.created", target=name)
    return password


async def drop_sql_user(database: Database, name: str, actor: Actor) -> None:
    """Drop such a role, and cut its connections.

    Raises:
        NotFound: there is none of this name.
        Forbidden: we may not drop roles.
    """
    async with database.writing() as connection:
        tenant_id = await SqlUserRepository(connection).drop(name)
        await AuditRepository(connection).add(actor, Act(tenant_id, "sql_user.dropped", name, {}))
    log.info("audit", actor=str(actor), action="sql_user.dropped", target=name)
