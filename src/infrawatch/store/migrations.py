"""Brings a database to the schema this version speaks, and tells whether it is there."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from alembic import command
from infrawatch.store.database import Database, create_engine

_PACKAGED = Path(__file__).parent.parent / "migrations" / "alembic"
_CHECKOUT = Path(__file__).parents[3] / "alembic"


async def upgrade(url: str) -> None:
    """Run the migrations that are missing; two processes at once run each one once.

    Raises:
        OSError: PostgreSQL cannot be reached.
    """
    engine = create_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def newest_revision() -> str:
    """The revision this version of the code speaks."""
    revision = ScriptDirectory.from_config(_configuration()).get_current_head()
    assert revision is not None
    return revision


async def find_revision(database: Database) -> str | None:
    """The revision a database is at; None when it was never migrated."""
    async with database.reading() as connection:
        return await connection.run_sync(
            lambda sync: MigrationContext.configure(sync).get_current_revision()
        )


def _upgrade(connection: Connection) -> None:
    configuration = _configuration()
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")


def _configuration() -> Config:
    configuration = Config()
    home = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    # ConfigParser reads % as the start of a substitution.
    configuration.set_main_option("script_location", str(home).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration
