"""`infrawatch up`: runs everything on this machine with one command."""

import asyncio
import shlex
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from infrawatch.access.keys.changes import KeySpec
from infrawatch.access.keys.provisioning import keep_key_file
from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.agent.loop import AgentOptions, run
from infrawatch.cli.application import create_app
from infrawatch.cli.database import calling_user, find_schema
from infrawatch.cli.first_key import print_first_key
from infrawatch.cli.options import DataDir, Host, Port, read_settings
from infrawatch.cli.running import run_until_stopped, set_up_logging
from infrawatch.embedded.home import Home
from infrawatch.embedded.postgres import Postgres, postgres_running
from infrawatch.server.serving import listen, serving
from infrawatch.settings import AgentSettings, Settings
from infrawatch.store.database import Database
from infrawatch.store.schema import newest_revision

NoAgent = Annotated[bool, typer.Option("--no-agent", help="Do not send this machine's metrics.")]


def up(
    host: Host = None, port: Port = None, data_dir: DataDir = None, no_agent: NoAgent = False
) -> None:
    """Start PostgreSQL, the server and an agent that sends this machine's metrics.

    PostgreSQL is the embedded one, a child of this process; for another use `infrawatch serve`.
    Ctrl-C stops all of it.
    """
    settings = read_settings(Settings, host=host, port=port, data_dir=data_dir)
    agent = None if no_agent else read_settings(AgentSettings)
    set_up_logging()
    run_until_stopped(_up(settings, agent))


async def _up(settings: Settings, agent: AgentSettings | None) -> None:
    if settings.database_url is not None:
        _say("INFRAWATCH_DATABASE_URL is for `infrawatch serve`; `up` uses its own PostgreSQL.")
    with listen(settings) as listener:
        async with AsyncExitStack() as stack:
            postgres = await stack.enter_async_context(postgres_running(settings.data_dir))
            url = postgres.endpoint.url()
            await _migrate(url)
            await print_first_key(url, settings)
            key_file = await _find_key_file(agent, url, postgres.home, settings)
            app = create_app(settings.model_copy(update={"database_url": SecretStr(url)}))
            address = await stack.enter_async_context(serving(app, listener, settings))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            if agent is not None:
                tasks.create_task(run(_agent_options(agent, address, postgres.home, key_file)))
            _say_what_is_where(address, postgres, agent)
            try:
                await asyncio.Event().wait()
            finally:
                _say("Stopping: the agent, then the server, then PostgreSQL.")


async def _migrate(url: str) -> None:
    """Migrate a database, unless it is at the newest schema already, as at most starts."""
    if await find_schema(url) != newest_revision():
        from infrawatch.store.migrations import upgrade  # noqa: PLC0415  # Alembic's import is slow

        await upgrade(url)


async def _find_key_file(
    agent: AgentSettings | None, url: str, home: Home, settings: Settings
) -> Path | None:
    """Return the agent's key file, if it needs one; without a configured one, create it."""
    if agent is None or settings.authentication != "required":
        return None
    if agent.key_file is not None:
        return agent.key_file
    path = home.requested / "agent.key"
    spec = KeySpec(DEFAULT_TENANT_ID, f"agent of {socket.gethostname()}"[:100], ("write",))
    async with Database.open(url, write_pool_size=1) as database:
        await keep_key_file(database, path, spec, calling_user())
    return path


def _agent_options(
    agent: AgentSettings, address: str, home: Home, key_file: Path | None
) -> AgentOptions:
    is_chosen = "spool_dir" in agent.model_fields_set
    return AgentOptions(
        url=address,
        key_file=key_file,
        interval=agent.interval,
        labels=agent.labels,
        spool_dir=agent.spool_dir if is_chosen else home.requested / "spool",
        spool_bytes=agent.spool_bytes,
    )


def _say_what_is_where(address: str, postgres: Postgres, agent: AgentSettings | None) -> None:
    home = postgres.home
    lines = [
        "InfraWatch is ready.",
        f"  Open      {address}",
        f"  API docs  {address}/docs",
        f"  Data      {home.path}",
        f"  Database  {postgres.endpoint.public_url}; with its password:",
        f"            {_command('database-url', '--data-dir', home.requested)}",
        f"  Agent     {_describe(agent)}",
    ]
    if home.path != home.requested:
        assert home.account is not None
        reason = f"(the user {home.account.name}, who runs it, may not enter {home.requested})"
        lines.insert(4, f"            {reason}")
    _say("\n".join([*lines, "Ctrl-C stops all of it."]))


def _describe(agent: AgentSettings | None) -> str:
    if agent is None:
        return "none"
    return f"sends this machine's metrics every {agent.interval.total_seconds():g} s"


def _command(*words: str | Path) -> str:
    """Return a command line of InfraWatch that works whatever is on PATH."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.join(map(str, (python, "-m", "infrawatch", *words)))


def _say(text: str) -> None:
    print(text, flush=True)
