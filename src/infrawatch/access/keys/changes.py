"""Creation and revocation of keys, each recorded in the audit trail."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from infrawatch.access.keys.credentials import ApiKey
from infrawatch.access.principal import Scope
from infrawatch.errors import NotFound
from infrawatch.store.accounts.audit import Act, Actor
from infrawatch.store.accounts.keys import KeyRepository, NewKey, StoredKey
from infrawatch.store.auditing import AuditedTransaction, audited
from infrawatch.store.database import Database


class KeySpec(NamedTuple):
    """Properties of a key to create."""

    tenant_id: int
    name: str
    scopes: Sequence[Scope]
    expires_at: datetime | None = None


@asynccontextmanager
async def changing_keys(database: Database, actor: Actor) -> AsyncGenerator["KeyChange", None]:
    """Open a transaction that changes keys; other such transactions wait for its end."""
    async with audited(database, actor) as transaction:
        keys = KeyRepository(transaction.connection)
        yield KeyChange(keys, await keys.begin_change(), transaction)


class KeyChange:
    """Changes to keys, recorded in the audit trail."""

    def __init__(self, keys: KeyRepository, number: int, transaction: AuditedTransaction) -> None:
        self._keys = keys
        self._number = number
        self._transaction = transaction

    async def create(self, spec: KeySpec, key: ApiKey) -> None:
        """Store a key; only a digest of its secret is kept."""
        await self._keys.add(
            NewKey(
                id=key.id,
                tenant_id=spec.tenant_id,
                name=spec.name,
                scopes=spec.scopes,
                digest=key.digest,
                created_by=str(self._transaction.actor),
                expires_at=spec.expires_at,
            ),
            self._number,
        )
        detail = {"name": spec.name, "scopes": list(spec.scopes), "expires_at": spec.expires_at}
        await self._transaction.record(Act(spec.tenant_id, "key.created", key.id, detail))

    async def revoke(self, key: StoredKey) -> None:
        """Revoke a key; does nothing if it is already revoked."""
        if await self._keys.revoke(key.id, self._number):
            await self._transaction.record(
                Act(key.tenant_id, "key.revoked", key.id, {"name": key.name})
            )

    async def find(self, key_id: str) -> StoredKey | None:
        return await self._keys.find(key_id)

    async def has_any(self, scope: Scope) -> bool:
        """Whether there is, or ever was, a key with a scope."""
        return await self._keys.has_any(scope)


async def create_key(database: Database, spec: KeySpec, actor: Actor) -> ApiKey:
    """Create a key, which is valid at once; its secret cannot be retrieved later."""
    key = ApiKey.generate()
    async with changing_keys(database, actor) as change:
        await change.create(spec, key)
    return key


async def revoke_key(
    database: Database, key_id: str, actor: Actor, *, tenant_id: int | None = None
) -> None:
    """Revoke a key, of one tenant or of any: servers refuse it within about two seconds.

    Raises:
        NotFound: there is no such key.
    """
    async with changing_keys(database, actor) as change:
        key = await change.find(key_id)
        if key is None or tenant_id not in (None, key.tenant_id):
            raise NotFound(f"there is no key {key_id!r}; `infrawatch keys list` shows all")
        await change.revoke(key)
