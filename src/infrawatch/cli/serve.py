"""`infrawatch serve`: the server alone, on an external PostgreSQL."""

import asyncio
import socket
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Annotated

import typer

from infrawatch.cli.application import create_app
from infrawatch.cli.database import check_schema, find_configured_url
from infrawatch.cli.first_key import print_first_key
from infrawatch.cli.options import Host, Port, read_settings
from infrawatch.cli.running import run_until_stopped, set_up_logging
from infrawatch.errors import CannotStart
from infrawatch.server.serving import listen, serving
from infrawatch.server.workers import working
from infrawatch.settings import Settings

Workers = Annotated[
    int | None, typer.Option(help="Processes that share the port [INFRAWATCH_WORKERS; 1]")
]
# Tells a worker which of its parent's sockets to use.
Listener = Annotated[int | None, typer.Option(hidden=True)]


def serve(
    host: Host = None, port: Port = None, workers: Workers = None, listener: Listener = None
) -> None:
    """Serve the API on the database in INFRAWATCH_DATABASE_URL.

    The database has to be migrated already. Any number of servers can share one database.
    """
    settings = read_settings(Settings, host=host, port=port, workers=workers)
    set_up_logging()
    run_until_stopped(_serve(settings, listener))


async def _serve(settings: Settings, inherited: int | None) -> None:
    url = find_configured_url(settings)
    if url is None:
        raise CannotStart(
            "`infrawatch serve` needs INFRAWATCH_DATABASE_URL, such as "
            "postgresql://user:password@host/database; `infrawatch up` brings its own PostgreSQL."
        )
    with ExitStack() as stack:
        running: AbstractAsyncContextManager[str]
        if inherited is None and settings.workers > 1:
            await _make_ready(url, settings)
            running = working(settings)
        elif inherited is None:
            listener = stack.enter_context(listen(settings))
            await _make_ready(url, settings)
            running = serving(create_app(settings), listener, settings)
        else:
            listener = stack.enter_context(socket.socket(fileno=inherited))
            running = serving(create_app(settings), listener, settings)
        async with running as address:
            print(f"InfraWatch serves {address}", flush=True)
            await asyncio.Event().wait()


async def _make_ready(url: str, settings: Settings) -> None:
    await check_schema(url)
    await print_first_key(url, settings)
