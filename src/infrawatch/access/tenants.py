"""Creation of tenants, recorded in the audit trail."""

from infrawatch.store.accounts.audit import Act, Actor
from infrawatch.store.accounts.tenants import Tenant, TenantRepository
from infrawatch.store.auditing import audited
from infrawatch.store.database import Database


async def create_tenant(database: Database, name: str, actor: Actor) -> Tenant:
    """Create a tenant, which has no data and no keys yet.

    Raises:
        AlreadyExists: there is one of this name.
    """
    async with audited(database, actor) as transaction:
        tenant = await TenantRepository(transaction.connection).add(name)
        await transaction.record(Act(tenant.id, "tenant.created", name, {}))
    return tenant
