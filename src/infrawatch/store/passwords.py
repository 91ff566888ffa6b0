"""The administrator's password, as a hash that takes long to try."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FIND = text("SELECT hash FROM admin_password")

_KEEP = text("""
INSERT INTO admin_password (hash) VALUES (:hash)
ON CONFLICT (single) DO UPDATE SET hash = excluded.hash, changed_at = clock_timestamp()
""")

_REMOVE = text("DELETE FROM admin_password")


class PasswordRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self) -> str | None:
        """Its hash; None if no password was set."""
        found: str | None = (await self._connection.execute(_FIND)).scalar_one_or_none()
        return found

    async def keep(self, hashed: str) -> None:
        """Put it in the place of the one before."""
        await self._connection.execute(_KEEP, {"hash": hashed})

    async def remove(self) -> bool:
        """Let there be none; False if there was none."""
        return (await self._connection.execute(_REMOVE)).rowcount > 0
