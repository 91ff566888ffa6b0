"""Changes to limits, each recorded in the audit trail."""

from infrawatch.errors import NotFound
from infrawatch.store.accounts.audit import Act, Actor
from infrawatch.store.accounts.keys import KeyRepository
from infrawatch.store.accounts.limits import Holder, LimitRepository, Limits
from infrawatch.store.auditing import audited
from infrawatch.store.database import Database


async def put_limits(database: Database, holder: Holder, limits: Limits, actor: Actor) -> None:
    """Replace the limits of a tenant or key, on every server within about a second.

    Raises:
        NotFound: the tenant has no such key.
    """
    async with audited(database, actor) as transaction:
        keys = KeyRepository(transaction.connection)
        await keys.begin_change()
        if holder.key_id is not None:
            key = await keys.find(holder.key_id)
            if key is None or key.tenant_id != holder.tenant_id:
                raise NotFound(
                    f"the tenant has no key {holder.key_id!r}; `infrawatch keys list` shows all"
                )
        await LimitRepository(transaction.connection).put(holder, limits)
        detail = {name: value for name, value in limits._asdict().items() if value is not None}
        await transaction.record(Act(holder.tenant_id, "limits.set", holder.name, detail))


async def remove_limits(database: Database, holder: Holder, actor: Actor) -> None:
    """Remove the limits of a tenant or key.

    Raises:
        NotFound: there are none.
    """
    async with audited(database, actor) as transaction:
        await KeyRepository(transaction.connection).begin_change()
        if not await LimitRepository(transaction.connection).remove(holder):
            raise NotFound("there are no such limits; `infrawatch limits list` shows all")
        await transaction.record(Act(holder.tenant_id, "limits.removed", holder.name, {}))
