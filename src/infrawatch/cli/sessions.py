"""`infrawatch sessions`: shows and ends sessions."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from infrawatch.access.login.sessions import end_session
from infrawatch.cli.database import calling_user, migrated_database
from infrawatch.cli.options import DataDir, read_settings
from infrawatch.cli.running import command_group, run_until_stopped
from infrawatch.cli.tables import print_table, to_cell
from infrawatch.settings import Settings
from infrawatch.store.accounts.sessions import SessionRepository
from infrawatch.store.accounts.tenants import TenantRepository

sessions = command_group("Show who is signed in to the dashboard, and sign them out.")


@sessions.command("list")
def list_sessions(data_dir: DataDir = None) -> None:
    """Show all current sessions."""
    run_until_stopped(_list(data_dir, read_settings(Settings).session_idle))


@sessions.command()
def end(
    session_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `infrawatch sessions list` shows it.")
    ],
    data_dir: DataDir = None,
) -> None:
    """End a session, on every server, within about two seconds."""
    run_until_stopped(_end(data_dir, session_id))


async def _list(data_dir: Path | None, idle: timedelta) -> None:
    async with migrated_database(data_dir) as database, database.reading() as connection:
        tenants = {tenant.id: tenant.name for tenant in await TenantRepository(connection).list()}
        found = await SessionRepository(connection).list(idle)
    heads = ("ID", "TENANT", "NAME", "BY", "SINCE", "LAST USED", "UNTIL")
    rows = [
        (
            *(one.id, tenants[one.tenant_id], one.name, one.way),
            *map(to_cell, (one.created_at, one.used_at, one.expires_at)),
        )
        for one in found
    ]
    print_table(heads, rows)


async def _end(data_dir: Path | None, session_id: str) -> None:
    async with migrated_database(data_dir) as database:
        await end_session(database, session_id, calling_user())
    print(f"The session {session_id} is over.", file=sys.stderr)
