"""Runs migrations on the connection it is handed, else on INFRAWATCH_DATABASE_URL."""

import asyncio
import os

from sqlalchemy import Connection

from alembic import context
from infrawatch.store.migrations import migrating


def migrate(connection: Connection) -> None:
    # Each in a transaction of its own; `op.get_context().autocommit_block()` leaves that for what
    # cannot be in one. Indexes of tables in use: infrawatch.store.indexes.build_index.
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_migrate() -> None:
    async with migrating(os.environ["INFRAWATCH_DATABASE_URL"]) as connection:
        await connection.run_sync(migrate)


handed: Connection | None = context.config.attributes.get("connection")
if handed is None:
    asyncio.run(connect_and_migrate())
else:
    migrate(handed)
