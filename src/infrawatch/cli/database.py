"""Which database a command means."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from infrawatch.cli.options import read_settings
from infrawatch.embedded.postgres import postgres_reachable
from infrawatch.settings import Settings


@asynccontextmanager
async def database_meant(data_dir: Path | None) -> AsyncGenerator[str]:
    """The URL of the embedded database if `--data-dir` names one, else INFRAWATCH_DATABASE_URL.

    Without either it is the embedded one in the default place. The embedded PostgreSQL may be
    running already; if not it runs for the block.
    """
    settings = read_settings(Settings, data_dir=data_dir)
    if data_dir is None and settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    else:
        async with postgres_reachable(settings.data_dir) as postgres:
            yield postgres.endpoint.url()
