"""Migrates a database to the schema of this version, or to another one."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import structlog
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from alembic import command
from infrawatch.errors import CannotStart
from infrawatch.store.database import create_engine
from infrawatch.store.schema import SCRIPTS, find_difference, is_older, revisions

log = structlog.get_logger()

_LOCK_KEY = 0x1F7A_5EED
_TRY_LOCK = text(f"SELECT pg_try_advisory_lock({_LOCK_KEY})")
_UNLOCK = text(f"SELECT pg_advisory_unlock({_LOCK_KEY})")
_TRY_AGAIN_S = 0.1


async def upgrade(url: str) -> None:
    """Run the missing migrations; concurrent processes run each one only once.

    Raises:
        CannotStart: the database is at a schema that this version does not know.
        OSError: PostgreSQL cannot be reached.
    """
    await _run(url, lambda configuration: command.upgrade(configuration, "head"))


async def move_to(url: str, revision: str) -> None:
    """Run the migrations to a revision, upgrading or downgrading.

    Raises:
        CannotStart: this version does not know the revision, or that of the database.
        OSError: PostgreSQL cannot be reached.
    """
    if revision not in revisions():
        raise CannotStart(
            f"There is no schema {revision[:50]!r}: this version knows {', '.join(revisions())}."
        )
    await _run(url, lambda configuration: command.upgrade(configuration, revision))
    await _run(url, lambda configuration: command.downgrade(configuration, revision))


@asynccontextmanager
async def migrating(url: str) -> AsyncGenerator[AsyncConnection, None]:
    """Open the connection to migrate on, which only one process has at a time.

    Other processes poll for the lock. Waiting in the database would take a transaction, for which
    CREATE INDEX CONCURRENTLY waits in turn: a deadlock.
    """
    engine = create_engine(url)
    try:
        async with engine.connect() as connection:
            await _locked(connection)
            try:
                yield connection
            finally:
                await connection.rollback()
                await connection.execute(_UNLOCK)
                await connection.commit()
    finally:
        await engine.dispose()


async def _locked(connection: AsyncConnection) -> None:
    has_waited = False
    while not (await connection.execute(_TRY_LOCK)).scalar_one():
        await connection.commit()
        if not has_waited:
            log.info("migration_waits", reason="another process migrates this database")
        has_waited = True
        await asyncio.sleep(_TRY_AGAIN_S)
    await connection.commit()


async def _run(url: str, work: Callable[[Config], None]) -> None:
    def run(connection: Connection) -> None:
        found = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
        if not is_older(found) and found not in revisions():
            raise CannotStart(str(find_difference(found)))
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        work(configuration)

    async with migrating(url) as connection:
        await connection.run_sync(run)


def _configuration() -> Config:
    configuration = Config()
    # ConfigParser reads % as the start of a substitution.
    configuration.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration
