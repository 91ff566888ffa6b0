"""The limits of all tenants and keys: a copy that this process keeps up to date."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from infrawatch.access.principal import Principal
from infrawatch.errors import Unavailable
from infrawatch.store.accounts.keys import KeyRepository
from infrawatch.store.accounts.limits import Holder, LimitRepository, Limits
from infrawatch.store.database import Database

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
"""Delay until a changed limit takes effect on every server."""


READ_DEADLINE_S = 2.0
"""A connection can hang indefinitely, and keys are read over the same one."""


class NamedLimits(NamedTuple):
    """Limits of a tenant or key; `name` identifies it in counters."""

    name: str
    limits: Limits


class LimitsCache:
    """All limits, about a second old at most; the last known ones while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_change = -1
        self._limits: Mapping[Holder, NamedLimits] = {}

    def of(self, principal: Principal) -> Sequence[NamedLimits]:
        """Return the limits that apply to a principal: those of its tenant and of its key."""
        if not self._limits:
            return ()
        tenant_id, key_id = principal.tenant_id, principal.key_id
        holders = {Holder(tenant_id), Holder(tenant_id, key_id)}
        return [found for holder in holders if (found := self._limits.get(holder)) is not None]

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
        self._limits = {
            stored.holder: NamedLimits(stored.holder.name, stored.limits) for stored in found
        }
        self._last_change = last_change
