"""Creation of tenants, recorded in the audit trail."""

import structlog

from infrawatch.store.accounts.audit import Act, Actor, AuditRepository
from infrawatch.store.accounts.tenants import Tenant, TenantRepository
from infrawatch.store.database import Database

log = structlog.get_logger()


async def create_tenant(database: Database, name: str, actor: Actor) -> Tenant:
    """Create a tenant, which has no data and no keys yet.

    Raises:
        AlreadyExists: there is one of this name.
    """
    async with database.writing() as connection:
        tenant = await TenantRepository(connection).add(name)
        await AuditRepository(connection).add(actor, Act(tenant.id, "tenant.created", name, {}))
    log.info("audit", actor=str(actor), action="tenant.created", target=name)
    return tenant
