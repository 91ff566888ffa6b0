"""Limits: a copy that this process keeps up to date, and changes to them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from infrawatch.access.principal import Principal
from infrawatch.errors import NotFound, Unavailable
from infrawatch.store.accounts.audit import Act, Actor, AuditRepository
from infrawatch.store.accounts.keys import KeyRepository
from infrawatch.store.accounts.limits import Holder, LimitRepository, Limits
from infrawatch.store.database import Database

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
"""Delay until a changed limit takes effect on every server."""


READ_DEADLINE_S = 2.0
"""A connection can hang indefinitely, and keys are read over the same one."""


class Held(NamedTuple):
    """Limits of a tenant or key; `name` identifies it in counters."""

    name: str
    limits: Limits


class LimitBook:
    """All limits, about a second old at most; the last known ones while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_change = -1
        self._held: Mapping[Holder, Held] = {}

    def of(self, principal: Principal) -> Sequence[Held]:
        """Return the limits that apply to a principal: those of its tenant and of its key."""
        if not self._held:
            return ()
        tenant_id, key_id = principal.tenant_id, principal.key_id
        holders = {Holder(tenant_id), Holder(tenant_id, key_id)}
        return [held for one in holders if (held := self._held.get(one)) is not None]

    async def run(self) -> None:
        """Read changes, forever; an outage is logged once."""
        is_away = False
        while True:
            try:
                async with asyncio.timeout(READ_DEADLINE_S):
                    await self.read()
            except (TimeoutError, Unavailable) as error:
                if not is_away:
                    log.warning("limits_cannot_be_read", error=type(error).__name__)
                is_away = True
            else:
                is_away = False
            await asyncio.sleep(LOOK_EVERY_S)

    async def read(self) -> None:
        """Read the limits if any has changed.

        Raises:
            StoreUnavailable: PostgreSQL is unreachable; the previous limits stay in effect.
        """
        async with self._database.reading() as connection:
            last_change = await KeyRepository(connection).last_change()
            if last_change == self._last_change:
                return
            found = await LimitRepository(connection).list()
        self._held = {one.holder: Held(_name(one.holder), one.limits) for one in found}
        self._last_change = last_change


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
        said = {name: value for name, value in limits._asdict().items() if value is not None}
        await AuditRepository(connection).add(actor, _act(holder, "limits.set", said))
    log.info("audit", actor=str(actor), action="limits.set", target=_name(holder))


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
    log.info("audit", actor=str(actor), action="limits.removed", target=_name(holder))


def _act(holder: Holder, action: str, detail: Mapping[str, object]) -> Act:
    return Act(holder.tenant_id, action, _name(holder), detail)


def _name(holder: Holder) -> str:
    return f"tenant:{holder.tenant_id}" if holder.key_id is None else f"key:{holder.key_id}"
