"""Which database a command means."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from infrawatch.cli.options import read_settings
from infrawatch.embedded.postgres import postgres_reachable
from infrawatch.errors import CannotStart, Unavailable
from infrawatch.settings import Settings
from infrawatch.store.database import Database
from infrawatch.store.migrations import find_revision


@asynccontextmanager
async def database_meant(data_dir: Path | None) -> AsyncGenerator[str]:
    """The URL of the embedded database if `--data-dir` names one, else INFRAWATCH_DATABASE_URL.

    Without either it is the embedded one in the default place. The embedded PostgreSQL may be
    running already; if not it runs for the block.
    """
    settings = read_settings(Settings, data_dir=data_dir)
    url = find_own_url(settings) if data_dir is None else None
    if url is not None:
        yield url
    else:
        async with postgres_reachable(settings.data_dir) as postgres:
            yield postgres.endpoint.url()


def find_own_url(settings: Settings) -> str | None:
    """The URL of a PostgreSQL that is not the embedded one, if the user named one.

    Raises:
        CannotStart: what the user named is not such a URL.
    """
    if settings.database_url is None:
        return None
    url = settings.database_url.get_secret_value()
    if not url.startswith(("postgresql://", "postgres://", "postgresql+asyncpg://")):
        raise CannotStart(
            "INFRAWATCH_DATABASE_URL is not a PostgreSQL URL: write it as "
            "postgresql://user:password@host/database."
        )
    return url


async def find_schema(url: str) -> str | None:
    """The revision a database is at; None when it was never migrated.

    Raises:
        CannotStart: it cannot be reached, or does not let us in.
    """
    try:
        async with Database.open(url) as database:
            return await find_revision(database)
    except Unavailable as error:
        raise CannotStart(
            f"The database cannot be used: {error}. Check INFRAWATCH_DATABASE_URL, and that its "
            "server runs."
        ) from None
