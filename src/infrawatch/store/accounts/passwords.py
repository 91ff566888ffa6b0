"""The administrator's password, stored as a slow hash."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FIND = text("SELECT hash FROM admin_password")

# A change waits until the transaction's end, or this waits for the change and then sees it.
_HOLD = text("SELECT hash = :hash FROM admin_password FOR SHARE")

_KEEP = text("""
INSERT INTO admin_password (hash) VALUES (:hash)
ON CONFLICT (single) DO UPDATE SET hash = excluded.hash, changed_at = clock_timestamp()
""")

_REMOVE = text("DELETE FROM admin_password")


class PasswordRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self) -> str | None:
        """Return the password's hash; None if no password is set."""
        found: str | None = (await self._connection.execute(_FIND)).scalar_one_or_none()
        return found

    async def hold(self, hashed: str) -> bool:
        """Return whether this is still the hash; if so, until the transaction's end."""
        return bool((await self._connection.execute(_HOLD, {"hash": hashed})).scalar_one_or_none())

    async def keep(self, hashed: str) -> None:
        """Store a hash, replacing the earlier one."""
        await self._connection.execute(_KEEP, {"hash": hashed})

    async def remove(self) -> bool:
        """Remove the password; return False if none was set."""
        return (await self._connection.execute(_REMOVE)).rowcount > 0
