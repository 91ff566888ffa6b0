"""Runs migrations on the connection it is handed, else on INFRAWATCH_DATABASE_URL."""

import asyncio
import os

from sqlalchemy import Connection, text

from alembic import context
from infrawatch.store.database import create_engine

# Two servers that start at once must migrate one after the other.
MIGRATION_LOCK = 0x1F7A_5EED


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, transaction_per_migration=True)
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.commit()
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()


async def connect_and_migrate() -> None:
    engine = create_engine(os.environ["INFRAWATCH_DATABASE_URL"])
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


handed: Connection | None = context.config.attributes.get("connection")
if handed is None:
    asyncio.run(connect_and_migrate())
else:
    migrate(handed)
