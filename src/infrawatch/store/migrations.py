"""Brings a database to the schema this version speaks, and tells whether it is there."""

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
    """Run the migrations that are missing; two processes at once run each one once.

    Raises:
        CannotStart: the database is at a schema that this version does not know.
        OSError: PostgreSQL cannot be reached.
    """
    await _run(url, lambda configuration: command.upgrade(configuration, "head"))


async def move_to(url: str, revision: str) -> None:
    """Run the migrations between here and a revision, back or forth.

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


@cache  # /readyz asks every few seconds, and each time all migrations would be read
def revisions() -> tuple[str, ...]:
    """All there are, the oldest first."""
    scripts = ScriptDirectory.from_config(_configuration())
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


def newest_revision() -> str:
    """The revision this version of the code speaks."""
    return revisions()[-1]


async def find_revision(database: Database) -> str | None:
    """The revision a database is at; None when it was never migrated."""
    async with database.reading() as connection:
        return await connection.run_sync(_current_revision)


def is_older(found: str | None) -> bool:
    """Whether a revision is one that `upgrade` leads away from."""
    return found is None or found < newest_revision()


def find_difference(found: str | None) -> str | None:
    """What to do about a database at this revision; None if it is the one we speak."""
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
    """A connection to migrate on, while nobody else has one.

    Who comes second asks again and again. Waiting in the database would be a transaction, and an
    index that is built concurrently waits for those: each would wait for the other.
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
