"""Creation and removal of SQL users, each recorded in the audit trail."""

from infrawatch.store.accounts.audit import Act, Actor
from infrawatch.store.accounts.sql_users import SqlUserRepository
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.auditing import audited
from infrawatch.store.database import Database


async def create_sql_user(database: Database, name: str, tenant: str, actor: Actor) -> str:
    """Create a PostgreSQL role that sees one tenant; return its password, which is not kept.

    Raises:
        NotFound: there is no such tenant.
        AlreadyExists: there is a role of this name.
        Forbidden: InfraWatch's own role may not create roles.
    """
    async with audited(database, actor) as transaction:
        tenant_id = (await TenantRepository(transaction.connection).get(tenant)).id
        users = SqlUserRepository(transaction.connection)
        password = await users.add(name, tenant_id, str(actor))
        await transaction.record(Act(tenant_id, "sql_user.created", name, {}))
    return password


async def drop_sql_user(database: Database, name: str, actor: Actor) -> None:
    """Drop a role made by `create_sql_user`, and close its connections.

    Raises:
        NotFound: there is none of this name.
        Forbidden: InfraWatch's own role may not drop roles.
    """
    async with audited(database, actor) as transaction:
        tenant_id = await SqlUserRepository(transaction.connection).drop(name)
        await transaction.record(Act(tenant_id, "sql_user.dropped", name, {}))
