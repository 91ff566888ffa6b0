"""Creation and removal of SQL users, each recorded in the audit trail."""

import structlog

from infrawatch.store.accounts.audit import Act, Actor, AuditRepository
from infrawatch.store.accounts.sql_users import SqlUserRepository
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.database import Database

log = structlog.get_logger()


async def create_sql_user(database: Database, name: str, tenant: str, actor: Actor) -> str:
    """Create a PostgreSQL role that sees one tenant; return its password, which is not kept.

    Raises:
        NotFound: there is no such tenant.
        AlreadyExists: there is a role of this name.
        Forbidden: InfraWatch's own role may not create roles.
    """
    async with database.writing() as connection:
        tenant_id = (await TenantRepository(connection).get(tenant)).id
        password = await SqlUserRepository(connection).add(name, tenant_id, str(actor))
        await AuditRepository(connection).add(actor, Act(tenant_id, "sql_user.created", name, {}))
    log.info("audit", actor=str(actor), action="sql_user.created", target=name)
    return password


async def drop_sql_user(database: Database, name: str, actor: Actor) -> None:
    """Drop a role made by `create_sql_user`, and close its connections.

    Raises:
        NotFound: there is none of this name.
        Forbidden: InfraWatch's own role may not drop roles.
    """
    async with database.writing() as connection:
        tenant_id = await SqlUserRepository(connection).drop(name)
        await AuditRepository(connection).add(actor, Act(tenant_id, "sql_user.dropped", name, {}))
    log.info("audit", actor=str(actor), action="sql_user.dropped", target=name)
