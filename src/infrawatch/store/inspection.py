"""Facts about the PostgreSQL server, for troubleshooting."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_FACTS = text("""
SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
    pg_is_in_recovery(),
    current_setting('fsync') = 'on',
    current_setting('full_page_writes') = 'on',
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    pg_has_role('pg_read_all_stats', 'USAGE'),
    current_user, coalesce(current_schema(), 'public'), pg_database_size(current_database())
""")
_CLOCK = text("SELECT clock_timestamp()")


class Facts(NamedTuple):
    version: int
    version_name: str
    is_standby: bool
    syncs: bool
    writes_full_pages: bool
    connections: int
    may_create: bool
    sees_others: bool
    user: str
    schema: str
    size_bytes: int


class InspectionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def facts(self) -> Facts:
        return Facts(*(await self._connection.execute(_FACTS)).one())

    async def clock(self) -> datetime:
        """Return the server's current time, not that of the transaction's start."""
        now: datetime = (await self._connection.execute(_CLOCK)).scalar_one()
        return now
