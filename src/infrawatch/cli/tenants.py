"""`infrawatch tenants`: tenants, which share an installation but not their data."""

from pathlib import Path
from typing import Annotated

import typer

from infrawatch.access.tenants import create_tenant
from infrawatch.cli.database import calling_user, migrated_database
from infrawatch.cli.keys import parse_name
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import command_group, run_until_stopped
from infrawatch.cli.tables import print_table, to_cell
from infrawatch.store.accounts.tenants import TenantRepository

tenants = command_group(
    "Create and list tenants; a key belongs to one, and sees nothing of another."
)


@tenants.command()
def create(
    name: Annotated[str, typer.Argument(help="Up to 100 letters, digits and . : @ / + - _")],
    data_dir: DataDir = None,
) -> None:
    """Create a tenant; `infrawatch keys create --tenant NAME` creates keys for it."""
    run_until_stopped(_create(data_dir, parse_name(name, "NAME")))


@tenants.command("list")
def list_tenants(data_dir: DataDir = None) -> None:
    """Show all tenants."""
    run_until_stopped(_list(data_dir))


async def _create(data_dir: Path | None, name: str) -> None:
    async with migrated_database(data_dir) as database:
        await create_tenant(database, name, calling_user())
    print(f"The tenant {name} is there; `infrawatch keys create --tenant` makes keys for it.")


async def _list(data_dir: Path | None) -> None:
    async with migrated_database(data_dir) as database, database.reading() as connection:
        found = await TenantRepository(connection).list()
    print_table(
        ("NAME", "CREATED"), [(tenant.name, to_cell(tenant.created_at)) for tenant in found]
    )
