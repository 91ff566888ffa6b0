"""Migrates a database to the schema of this version, and checks which schema it has."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import structlog
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from alembic import command
from infrawatch.errors import CannotStart
from infrawatch.store.database import Database, create_engine

log = structlog.get_logger()

_PACKAGED = Path(__file__).parent.parent / "migrations" / "alembic"
_CHECKOUT = Path(__file__).parents[3] / "alembic"

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


@cache  # /readyz needs them every few seconds, and would read all migrations each time
def revisions() -> tuple[str, ...]:
    """Return all revisions, the oldest first."""
    scripts = ScriptDirectory.from_config(_configuration())
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


def newest_revision() -> str:
    """Return the revision that this version of the code uses."""
    return revisions()[-1]


async def find_revision(database: Database) -> str | None:
    """Return the revision of a database; None if it was never migrated."""
    async with database.reading() as connection:
        return await connection.run_sync(_current_revision)


def is_older(found: str | None) -> bool:
    """Whether a revision is older than this version's, so that `upgrade` applies."""
    return found is None or found < newest_revision()


def find_difference(found: str | None) -> str | None:
    """Return what to do about a database at a revision; None if it is this version's own."""
    newest = newest_revision()
    if found == newest:
        return None
    is_at = f"The database is at schema {found or 'none'}, and this version speaks {newest}"
    if is_older(found):
        return f"{is_at}. Run `infrawatch migrate` first."
    return (
        f"{is_at}: a newer InfraWatch has migrated it. Run that version here too, or let it go "
        f"back with `infrawatch migrate --to {newest}`."
    )


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
        found = _current_revision(connection)
        connection.rollback()
        if not is_older(found) and found not in revisions():
            raise CannotStart(str(find_difference(found)))
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        work(configuration)

    async with migrating(url) as connection:
        await connection.run_sync(run)


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _configuration() -> Config:
    configuration = Config()
    home = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    # ConfigParser reads % as the start of a substitution.
    configuration.set_main_option("script_location", str(home).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration
