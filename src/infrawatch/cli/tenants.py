"""`infrawatch tenants`: who shares an installation without seeing anything of each other."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from infrawatch.access.schemas import Name
from infrawatch.access.tenants import create_tenant
from infrawatch.cli.database import migrated_database, whoever_calls
from infrawatch.cli.options import DataDir, read_settings
from infrawatch.cli.serving import run_until_stopped
from infrawatch.cli.tables import print_table, to_cell
from infrawatch.settings import LogSettings
from infrawatch.store.tenants import TenantRepository
from infrawatch.telemetry import configure_logging

tenants = typer.Typer(
    help="Create and list tenants; a key belongs to one, and sees nothing of another.",
    no_args_is_help=True,
    add_completion=False,
)


@tenants.callback()
def _tenants() -> None:
    logs = read_settings(LogSettings)
    configure_logging(logs.log_format, logs.log_level)


@tenants.command()
def create(
    name: Annotated[str, typer.Argument(help="Up to 100 letters, digits and . : @ / + - _")],
    data_dir: DataDir = None,
) -> None:
    """Create a tenant; `infrawatch keys create --tenant NAME` lets somebody in."""
    try:
        TypeAdapter[str](Name).validate_python(name)
    except ValidationError:
        raise typer.BadParameter(
            "a name has up to 100 letters, digits, blanks and . : @ / + - _", param_hint="NAME"
        ) from None
    run_until_stopped(_create(data_dir, name))


@tenants.command("list")
def list_tenants(data_dir: DataDir = None) -> None:
    """Show all tenants."""
    run_until_stopped(_list(data_dir))


async def _create(data_dir: Path | None, name: str) -> None:
    async with migrated_database(data_dir) as database:
        await create_tenant(database, name, whoever_calls())
    print(f"The tenant {name} is there; `infrawatch keys create --tenant` makes keys for it.")


async def _list(data_dir: Path | None) -> None:
    async with migrated_database(data_dir) as database, database.reading() as connection:
        found = await TenantRepository(connection).list()
    print_table(("NAME", "CREATED"), [(one.name, to_cell(one.created_at)) for one in found])
