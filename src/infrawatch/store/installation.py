"""What tells one database from another."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_EPOCH = text("SELECT epoch FROM installation")


async def get_epoch(connection: AsyncConnection) -> UUID:
    """The id a database got when it was created; cursors of another one mean nothing in it."""
    return UUID(str((await connection.execute(_EPOCH)).scalar_one()))
