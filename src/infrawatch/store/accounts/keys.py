"""Stored API keys: the tenant a key belongs to, its scopes, and its digest."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.statements import Statement

# Waits for a concurrent change of keys. So changes are numbered in commit order, and a server that
# has read up to a number has missed none before it.
_NEXT_CHANGE = text("UPDATE access_state SET changes = changes + 1 RETURNING changes")

# Asked every second, by an idle server too.
_LAST_CHANGE = Statement.of("SELECT changes FROM access_state")

_COLUMNS = """
k.id, k.tenant_id, t.name, k.name, k.scopes, k.digest, k.created_at, k.created_by, k.expires_at,
k.revoked_at, k.last_used_at
"""

_ADD = text("""
INSERT INTO api_keys (id, tenant_id, name, scopes, digest, created_by, expires_at, change)
VALUES (:id, :tenant, :name, CAST(:scopes AS text[]), :digest, :created_by, :expires_at, :change)
""")

_FIND = text(
    f"SELECT {_COLUMNS} FROM api_keys k JOIN tenants t ON t.id = tenant_id WHERE k.id = :id"
)

_LIST = text(f"""
SELECT {_COLUMNS} FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
WHERE CAST(:tenant AS integer) IS NULL OR k.tenant_id = CAST(:tenant AS integer)
ORDER BY t.name, k.created_at, k.id
""")

_CHANGED = text(f"""
SELECT {_COLUMNS} FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.change > :since
""")

_REVOKE = text("""
UPDATE api_keys SET revoked_at = clock_timestamp(), change = :change
WHERE id = :id AND revoked_at IS NULL
""")

_HAS_ANY = text("SELECT EXISTS (SELECT FROM api_keys WHERE :scope = ANY (scopes))")

# Sorted by id, so that two servers recording the same keys cannot deadlock.
_NOTE_USE = text("""
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at)
FROM (
    SELECT id, used.at FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[]))
        AS used (id, at) JOIN api_keys USING (id) ORDER BY id FOR UPDATE OF api_keys
) AS used WHERE k.id = used.id
""")


class StoredKey(NamedTuple):
    """An API key without its secret."""

    id: str
    tenant_id: int
    tenant: str
    name: str
    scopes: Sequence[str]
    digest: bytes
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def is_good(self) -> bool:
        """Whether the key is neither revoked nor expired, by this machine's clock."""
        is_expired = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        return self.revoked_at is None and not is_expired


class NewKey(NamedTuple):
    id: str
    tenant_id: int
    name: str
    scopes: Sequence[str]
    digest: bytes
    created_by: str
    expires_at: datetime | None


class KeyRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def begin_change(self) -> int:
        """Number the changes of this transaction; other changes of keys wait for its end."""
        return int((await self._connection.execute(_NEXT_CHANGE)).scalar_one())

    async def add(self, key: NewKey, change: int) -> None:
        values = {**key._asdict(), "scopes": list(key.scopes), "change": change}
        values["tenant"] = values.pop("tenant_id")
        await self._connection.execute(_ADD, values)

    async def revoke(self, key_id: str, change: int) -> bool:
        """Revoke a key; return False if it was revoked already or does not exist."""
        answer = await self._connection.execute(_REVOKE, {"id": key_id, "change": change})
        return answer.rowcount > 0

    async def find(self, key_id: str) -> StoredKey | None:
        row = (await self._connection.execute(_FIND, {"id": key_id})).one_or_none()
        return None if row is None else _to_key(row)

    async def list(self, tenant_id: int | None) -> Sequence[StoredKey]:
        """Return the keys of one tenant or of all, including revoked and expired ones."""
        rows = await self._connection.execute(_LIST, {"tenant": tenant_id})
        return [_to_key(row) for row in rows]

    async def has_any(self, scope: str) -> bool:
        """Whether a key with this scope exists, even if revoked or expired."""
        return bool((await self._connection.execute(_HAS_ANY, {"scope": scope})).scalar_one())

    async def last_change(self) -> int:
        [[changes]] = await _LAST_CHANGE.fetch(self._connection, {})
        return int(changes)

    async def changed_since(self, change: int) -> Sequence[StoredKey]:
        """Return the keys created or revoked after a change."""
        return [_to_key(row) for row in await self._connection.execute(_CHANGED, {"since": change})]

    async def note_use(self, used: Mapping[str, datetime]) -> None:
        """Record when keys were last used, unless a later time is already stored."""
        values = {"ids": list(used), "times": list(used.values())}
        await self._connection.execute(_NOTE_USE, values)


def _to_key(row: Row[Any]) -> StoredKey:
    return StoredKey._make(row)  # in the order of _COLUMNS
