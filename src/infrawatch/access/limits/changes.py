"""Changes to limits, each recorded in the audit trail."""

from collections.abc import Mapping

import structlog

from infrawatch.errors import NotFound
from infrawatch.store.accounts.audit import Act, Actor, AuditRepository
from infrawatch.store.accounts.keys import KeyRepository
from infrawatch.store.accounts.limits import Holder, LimitRepository, Limits
from infrawatch.store.database import Database

log = structlog.get_logger()


async def put_limits(database: Database, holder: Holder, limits: Limits, actor: Actor) -> None:
    """Replace the limits of a tenant or key, on every server within about a second.

    Raises:
        NotFound: the tenant has no such key.
    """
    async with database.writing() as connection:
        keys = KeyRepository(connection)
        await keys.begin_change()
        if holder.key_id is not None:
            key = await keys.find(holder.key_id)
            if key is None or key.tenant_id != holder.tenant_id:
                raise NotFound(
                    f"the tenant has no key {holder.key_id!r}; `infrawatch keys list` shows all"
                )
        await LimitRepository(connection).put(holder, limits)
        detail = {name: value for name, value in limits._asdict().items() if value is not None}
        await AuditRepository(connection).add(actor, _act(holder, "limits.set", detail))
    log.info("audit", actor=str(actor), action="limits.set", target=holder.name)


async def remove_limits(database: Database, holder: Holder, actor: Actor) -> None:
    """Remove the limits of a tenant or key.

    Raises:
        NotFound: there are none.
    """
    async with database.writing() as connection:
        await KeyRepository(connection).begin_change()
        if not await LimitRepository(connection).remove(holder):
            raise NotFound("there are no such limits; `infrawatch limits list` shows all")
        await AuditRepository(connection).add(actor, _act(holder, "limits.removed", {}))
    log.info("audit", actor=str(actor), action="limits.removed", target=holder.name)


def _act(holder: Holder, action: str, detail: Mapping[str, object]) -> Act:
    return Act(holder.tenant_id, action, holder.name, detail)
