"""`infrawatch sql-users`: PostgreSQL roles that see one tenant, for psql and BI tools."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from infrawatch.access.sql_users import create_sql_user, drop_sql_user
from infrawatch.cli.database import (
    calling_user,
    check_schema,
    chosen_database_url,
    migrated_database,
)
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import command_group, run_until_stopped
from infrawatch.cli.tables import print_table, to_cell
from infrawatch.store.accounts.sql_users import SqlUserRepository, to_user_url
from infrawatch.store.database import Database

sql_users = command_group("Give people and BI tools one tenant in SQL, to read, and nothing else.")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

Name = Annotated[str, typer.Option(help="Up to 40 letters a-z, digits and _.")]


@sql_users.command()
def create(
    name: Name,
    tenant: Annotated[str, typer.Option(help="Whose data it sees.")] = "default",
    data_dir: DataDir = None,
) -> None:
    """Create a PostgreSQL role, and print its URL with the password, which is not shown again."""
    run_until_stopped(_create(data_dir, _parse_name(name), tenant))


@sql_users.command("list")
def list_sql_users(data_dir: DataDir = None) -> None:
    """Show all SQL users; never their passwords."""
    run_until_stopped(_list(data_dir))


@sql_users.command()
def drop(name: Name, data_dir: DataDir = None) -> None:
    """Drop a role that `create` created, and close its connections at once."""
    run_until_stopped(_drop(data_dir, _parse_name(name)))


async def _create(data_dir: Path | None, name: str, tenant: str) -> None:
    async with chosen_database_url(data_dir) as url:
        await check_schema(url)
        async with Database.open(url, write_pool_size=1, read_pool_size=1) as database:
            password = await create_sql_user(database, name, tenant, calling_user())
    print(
        f"The SQL user {name} of {tenant}, whose password nobody can show again:", file=sys.stderr
    )
    print(to_user_url(url, name, password))


async def _list(data_dir: Path | None) -> None:
    async with migrated_database(data_dir) as database, database.reading() as connection:
        found = await SqlUserRepository(connection).list()
    rows = [(user.role, user.tenant, to_cell(user.created_at), user.created_by) for user in found]
    print_table(("ROLE", "TENANT", "CREATED", "BY"), rows)


async def _drop(data_dir: Path | None, name: str) -> None:
    async with migrated_database(data_dir) as database:
        await drop_sql_user(database, name, calling_user())
    print(f"The SQL user {name} is gone.", file=sys.stderr)


def _parse_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(
            "a name has up to 40 letters a-z, digits and _", param_hint="--name"
        )
    return name
