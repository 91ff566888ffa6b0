"""`infrawatch limits`: the limits of tenants and keys."""

from pathlib import Path
from typing import Annotated

import typer

from infrawatch.access.limits.changes import put_limits, remove_limits
from infrawatch.cli.database import calling_user, migrated_database
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import command_group, run_until_stopped
from infrawatch.cli.tables import print_table
from infrawatch.store.accounts.limits import Holder, LimitRepository, Limits
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.database import Database

limits = command_group("Set and list limits of tenants and keys, with or without a running server.")


Tenant = Annotated[str, typer.Option(help="Whose limits.")]
Key = Annotated[
    str | None, typer.Option(help="The id of one of its keys; left out, the whole tenant.")
]


@limits.command("set")
def set_limits(  # noqa: PLR0913, PLR0917  # each is an option
    tenant: Tenant = "default",
    key: Key = None,
    requests_per_s: Annotated[float | None, typer.Option(min=1e-3)] = None,
    samples_per_s: Annotated[float | None, typer.Option(min=1e-3)] = None,
    active_series: Annotated[
        int | None,
        typer.Option(min=0, help="At the limit, known series go on, new ones are refused."),
    ] = None,
    live_connections: Annotated[
        int | None, typer.Option(min=0, help="To all servers together; without Redis, to each.")
    ] = None,
    query_samples: Annotated[
        int | None, typer.Option(min=1, help="How many samples one query may read.")
    ] = None,
    query_series: Annotated[
        int | None, typer.Option(min=1, help="How many series one query may select.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Set all limits of a tenant or key: those left out are removed. Servers follow in a second."""
    chosen = Limits(
        requests_per_s, samples_per_s, active_series, live_connections, query_samples, query_series
    )
    run_until_stopped(_set(data_dir, tenant, key, chosen))


@limits.command()
def clear(tenant: Tenant = "default", key: Key = None, data_dir: DataDir = None) -> None:
    """Remove the limits of a tenant or key."""
    run_until_stopped(_clear(data_dir, tenant, key))


@limits.command("list")
def list_limits(data_dir: DataDir = None) -> None:
    """Show all limits; `-` means no limit."""
    run_until_stopped(_list(data_dir))


async def _set(data_dir: Path | None, tenant: str, key: str | None, chosen: Limits) -> None:
    async with migrated_database(data_dir) as database:
        await put_limits(database, await _holder(database, tenant, key), chosen, calling_user())


async def _clear(data_dir: Path | None, tenant: str, key: str | None) -> None:
    async with migrated_database(data_dir) as database:
        await remove_limits(database, await _holder(database, tenant, key), calling_user())


async def _list(data_dir: Path | None) -> None:
    async with migrated_database(data_dir) as database, database.reading() as connection:
        found = await LimitRepository(connection).list()
    heads = ("TENANT", "KEY", *(name.upper() for name in Limits._fields))
    rows = [
        (stored.tenant, stored.holder.key_id or "-", *map(_to_cell, stored.limits))
        for stored in found
    ]
    print_table(heads, rows)


def _to_cell(limit: float | None) -> str:
    return "-" if limit is None else f"{limit:.12g}"


async def _holder(database: Database, tenant: str, key: str | None) -> Holder:
    async with database.reading() as connection:
        return Holder((await TenantRepository(connection).get(tenant)).id, key)
