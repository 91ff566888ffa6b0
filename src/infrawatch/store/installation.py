"""The identity of a database."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_EPOCH = text("SELECT epoch FROM installation")


async def get_epoch(connection: AsyncConnection) -> UUID:
    """Return the id the database got at creation; cursors of other databases are invalid in it."""
    return UUID(str((await connection.execute(_EPOCH)).scalar_one()))
