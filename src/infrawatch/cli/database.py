"""The database that a command works on."""

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from getpass import getuser
from pathlib import Path
from urllib.parse import urlsplit

from infrawatch.cli.options import read_settings
from infrawatch.embedded.endpoint import Endpoint
from infrawatch.embedded.home import Home
from infrawatch.embedded.postgres import postgres_reachable
from infrawatch.errors import CannotStart, Unavailable
from infrawatch.settings import Settings
from infrawatch.store.accounts.audit import Actor
from infrawatch.store.database import Database
from infrawatch.store.schema import find_difference, find_revision


@asynccontextmanager
async def chosen_database_url(
    data_dir: Path | None, *, may_be_new: bool = False
) -> AsyncGenerator[str]:
    """Yield the URL of the embedded database in `--data-dir`, else INFRAWATCH_DATABASE_URL.

    Without either, it is the embedded database in the default directory. The embedded PostgreSQL
    may already be running; if not, it runs until the block ends.

    Raises:
        CannotStart: there is none and `may_be_new` is false, or it cannot be started.
    """
    settings = read_settings(Settings, data_dir=data_dir)
    url = find_configured_url(settings) if data_dir is None else None
    if url is not None:
        yield url
    else:
        if not may_be_new:
            Endpoint.of(Home.resolve(settings.data_dir))
        async with postgres_reachable(settings.data_dir) as postgres:
            yield postgres.endpoint.url()


@asynccontextmanager
async def migrated_database(data_dir: Path | None) -> AsyncGenerator[Database]:
    """Open the database of `chosen_database_url`, for a command that needs InfraWatch's tables.

    Raises:
        CannotStart: it is unreachable, or not at the schema of this version.
    """
    async with chosen_database_url(data_dir) as url:
        await check_schema(url)
        async with Database.open(url, write_pool_size=1, read_pool_size=1) as database:
            yield database


async def check_schema(url: str) -> None:
    """Check that a database is at the schema of this version.

    Raises:
        CannotStart: it is not, or is unreachable; the message says what to do.
    """
    difference = find_difference(await find_schema(url))
    if difference is not None:
        raise CannotStart(difference)


def calling_user() -> Actor:
    """Return the user who runs this command, for the audit trail."""
    try:
        user = getuser()
    except (KeyError, OSError):  # a container may run as a user id without a name
        user = str(os.getuid())
    return Actor(f"{user} at {socket.gethostname()}")


def find_configured_url(settings: Settings) -> str | None:
    """Return the URL of an external PostgreSQL, if one is configured.

    Raises:
        CannotStart: the configured value is not a PostgreSQL URL.
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
    """Return the schema revision of a database; None if it was never migrated.

    Raises:
        CannotStart: it is unreachable, or refuses the connection.
    """
    try:
        async with Database.open(url) as database:
            return await find_revision(database)
    except Unavailable as error:
        raise CannotStart(
            f"The database at {urlsplit(url).netloc.rpartition('@')[2]} {_reason(error)}. "
            "Check INFRAWATCH_DATABASE_URL, and that its server runs."
        ) from None


def _reason(error: Unavailable) -> str:
    """Return why a database cannot be used, in the system's own words if it cannot be reached."""
    cause = error.__cause__
    if not isinstance(cause, OSError):
        return f"cannot be used: {error}"
    number = cause.errno or 0
    reason = os.strerror(number) if number > 0 else cause.strerror or "no answer"
    return f"cannot be reached: {reason}"
