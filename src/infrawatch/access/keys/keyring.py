"""The API keys, looked up in memory and at most two seconds out of date."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from math import inf
from time import monotonic
from typing import NamedTuple, cast

import structlog
from starlette.requests import HTTPConnection

from infrawatch.access.keys.credentials import ApiKey, find_credential
from infrawatch.access.principal import Principal, Scope
from infrawatch.errors import StoreUnavailable, Unauthenticated, Unavailable
from infrawatch.model.timerange import now_us, to_us
from infrawatch.store.accounts.keys import KeyRepository, StoredKey
from infrawatch.store.database import Database

log = structlog.get_logger()

TRUSTED_S = 2.0
"""How long keys in memory are trusted: a revoked key is refused everywhere after this time."""

DUE_S = 1.0
"""Age at which keys are read again in the background, so that no request waits for it."""

READ_DEADLINE_S = 2.0

NOTE_EVERY_S = 5.0
NOTED_S = 60.0
"""How often the last use of keys is recorded: of all keys, and of one key."""


class _Cached(NamedTuple):
    principal: Principal
    digest: bytes
    is_revoked: bool
    expires_us: float

    def is_good(self) -> bool:
        return not self.is_revoked and (self.expires_us == inf or now_us() < self.expires_us)


class KeyRing:
    """All keys, kept up to date by reading changes; one instance per process.

    While PostgreSQL is unreachable, valid keys stay valid: none can be revoked meanwhile, and a
    sender should get a retryable error from the store, not a refusal from here.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: dict[str, _Cached] = {}
        self._last_change = -1
        self._began = self._due = self._trusted_until = -inf
        self._reading = asyncio.Lock()
        self._has_failed = False
        self._is_due = asyncio.Event()
        self._used: dict[str, float] = {}
        self._noted: dict[str, float] = {}

    async def find_principal(self, connection: HTTPConnection) -> Principal | None:
        text = find_credential(connection)
        key = None if text is None else ApiKey.find(text)
        if key is None:
            return None
        cached = await self._find(key.id)
        if cached is None or not compare_digest(cached.digest, key.digest):
            raise Unauthenticated(
                "this key is wrong: is it complete? `infrawatch keys create` makes another",
                reason="wrong_key",
            )
        if not cached.is_good():
            what = "was revoked" if cached.is_revoked else "has expired"
            raise Unauthenticated(
                f"the key {key.id} {what}; `infrawatch keys create` makes a new one",
                reason="revoked_key" if cached.is_revoked else "expired_key",
                who=str(cached.principal),
            )
        self._used[key.id] = monotonic()
        return cached.principal

    async def honours(self, principal: Principal) -> bool:
        if principal.key_id is None:
            return True
        try:
            cached = await self._find(principal.key_id)
        except Unavailable:  # so it cannot have been revoked
            return True
        return cached is not None and cached.is_good()

    async def run(self) -> None:
        """Read changes when due, and record which keys are used, forever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTE_EVERY_S):
                    await self._is_due.wait()
            try:
                if self._is_due.is_set():
                    self._is_due.clear()
                    await self._read(monotonic())
                await self._note_use()
            except Unavailable as error:
                log.warning("keys_cannot_be_read", error=str(error))
                await asyncio.sleep(DUE_S)

    async def _find(self, key_id: str) -> _Cached | None:
        cached, now = self._cached.get(key_id), monotonic()
        if cached is not None and now < self._trusted_until:
            if now >= self._due:
                self._is_due.set()
            return cached
        try:
            await self._read(now)  # an unknown key may have been created a moment ago
        except Unavailable:
            if cached is None:
                raise
        return self._cached.get(key_id)

    async def _read(self, asked_at: float) -> None:
        """Read changes, unless another task began to after `asked_at`: one read serves all.

        Raises:
            StoreUnavailable: PostgreSQL does not answer in time.
        """
        async with self._reading:
            if self._began < asked_at:
                self._began, self._has_failed = monotonic(), True
                with suppress(TimeoutError, Unavailable):
                    async with asyncio.timeout(READ_DEADLINE_S):
                        changed = await self._changed()
                        self._cached.update({key.id: _to_cached(key) for key in changed})
                    self._has_failed = False
                since = monotonic() if self._has_failed else self._began
                self._due, self._trusted_until = since + DUE_S, since + TRUSTED_S
            if self._has_failed:
                raise StoreUnavailable(
                    "PostgreSQL cannot be asked about keys now; try again shortly"
                )

    async def _changed(self) -> Sequence[StoredKey]:
        async with self._database.reading() as connection:
            keys = KeyRepository(connection)
            last_change = await keys.last_change()
            if last_change == self._last_change:
                return ()
            changed = await keys.changed_since(self._last_change)
        self._last_change = last_change
        return changed

    async def _note_use(self) -> None:
        now = monotonic()
        due = {
            key_id: datetime.now(UTC) - timedelta(seconds=now - used)
            for key_id, used in self._used.items()
            if now - self._noted.get(key_id, -inf) >= NOTED_S
        }
        if not due:
            return
        async with self._database.writing() as connection:
            await KeyRepository(connection).note_use(due)
        self._noted |= dict.fromkeys(due, now)
        for key_id in due:
            if self._used[key_id] <= now:
                del self._used[key_id]


def _to_cached(key: StoredKey) -> _Cached:
    scopes = frozenset(cast("list[Scope]", key.scopes))
    return _Cached(
        Principal(key.tenant_id, key.name, scopes, key.id),
        key.digest,
        is_revoked=key.revoked_at is not None,
        expires_us=inf if key.expires_at is None else to_us(key.expires_at),
    )
