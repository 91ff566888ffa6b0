"""`infrawatch serve`: the server alone, on a PostgreSQL that somebody else runs."""

import asyncio

from infrawatch.app import create_app
from infrawatch.cli.database import find_own_url, find_schema
from infrawatch.cli.options import Host, Port, read_settings
from infrawatch.cli.serving import listen, run_until_stopped, serving
from infrawatch.errors import CannotStart
from infrawatch.settings import LogSettings, Settings
from infrawatch.store.migrations import newest_revision
from infrawatch.telemetry import configure_logging


def serve(host: Host = None, port: Port = None) -> None:
    """Serve the API on the database in INFRAWATCH_DATABASE_URL.

    The database has to be migrated already. Any number of these may share one database.
    """
    settings = read_settings(Settings, host=host, port=port)
    logs = read_settings(LogSettings)
    configure_logging(logs.log_format, logs.log_level)
    run_until_stopped(_serve(settings))


async def _serve(settings: Settings) -> None:
    url = find_own_url(settings)
    if url is None:
        raise CannotStart(
            "`infrawatch serve` needs INFRAWATCH_DATABASE_URL, such as "
            "postgresql://user:password@host/database; `infrawatch up` brings its own PostgreSQL."
        )
    with listen(settings) as listener:
        await _check_schema(url)
        async with serving(create_app(settings), listener, settings) as address:
            print(f"InfraWatch serves {address}", flush=True)
            await asyncio.Event().wait()


async def _check_schema(url: str) -> None:
    found = await find_schema(url)
    if found != newest_revision():
        raise CannotStart(
            f"The database is at schema {found or 'none'}, and this version speaks "
            f"{newest_revision()}. Run `infrawatch migrate` first."
        )
