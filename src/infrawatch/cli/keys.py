"""`infrawatch keys`: API keys, which permit writing, reading and administration."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, cast

import typer
from pydantic import TypeAdapter, ValidationError

from infrawatch.access.keys.changes import KeySpec, create_key, revoke_key
from infrawatch.access.keys.provisioning import keep_key_file, make_key_file
from infrawatch.access.principal import SCOPES, Scope
from infrawatch.access.routes.schemas import Name
from infrawatch.cli.database import calling_user, migrated_database
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import command_group, run_until_stopped
from infrawatch.cli.tables import print_table, to_cell
from infrawatch.durations import parse_duration
from infrawatch.store.accounts.keys import KeyRepository, StoredKey
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.database import Database

keys = command_group("Create, list and revoke API keys, with or without a running server.")


KeyName = Annotated[str, typer.Option("--name", help="What it is for: `agent of web-1`.")]
Scopes = Annotated[
    list[str], typer.Option("--scope", help="write, read or admin; repeat it for more.")
]
Tenant = Annotated[str, typer.Option(help="Whose data it writes and reads.")]
Expires = Annotated[str | None, typer.Option(help="How long it is valid: 90d. Left out, for ever.")]
IfAbsent = Annotated[
    bool,
    typer.Option(
        "--if-absent",
        help="Do nothing if the file of --to-file holds a valid key already; without --to-file, "
        "if there is a valid key of this name.",
    ),
]
ToFile = Annotated[
    Path | None,
    typer.Option(help="Write the key here, for its owner's eyes only, instead of printing it."),
]


@keys.command()
def create(  # noqa: PLR0913, PLR0917  # each is an option
    name: KeyName,
    scope: Scopes,
    tenant: Tenant = "default",
    expires: Expires = None,
    if_absent: IfAbsent = False,
    to_file: ToFile = None,
    data_dir: DataDir = None,
) -> None:
    """Create a key and print it, once: only a digest is stored. It is valid at once."""
    spec = KeySpec(0, parse_name(name, "--name"), _parse_scopes(scope), _parse_expires(expires))
    run_until_stopped(_create(data_dir, tenant, spec, to_file, is_once=if_absent))


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Those of one tenant.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Show all keys, including revoked and expired ones; never their secrets."""
    run_until_stopped(_list(data_dir, tenant))


@keys.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `infrawatch keys list` shows it.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key: every server refuses it within about two seconds."""
    run_until_stopped(_revoke(data_dir, key_id))


async def _create(
    data_dir: Path | None, tenant: str, spec: KeySpec, file: Path | None, *, is_once: bool
) -> None:
    async with migrated_database(data_dir) as database:
        async with database.reading() as connection:
            tenant_id = (await TenantRepository(connection).get(tenant)).id
        spec = spec._replace(tenant_id=tenant_id)
        if is_once and file is not None:
            is_new = await keep_key_file(database, file, spec, calling_user())
            _say(f"The key in {file} is {'new' if is_new else 'good already'}.")
            return
        if is_once and await _has_good(database, spec):
            _say(f"There is a key {spec.name!r} already; nothing was made.")
            return
        if file is not None:
            await make_key_file(database, file, spec, calling_user())
            _say(f"The key is in {file}.")
            return
        key = await create_key(database, spec, calling_user())
    _say(f"The key {key.id} of {tenant}, which nobody can show again:")
    print(key.text)


async def _has_good(database: Database, spec: KeySpec) -> bool:
    async with database.reading() as connection:
        found = await KeyRepository(connection).list(spec.tenant_id)
    return any(key.name == spec.name and key.is_good for key in found)


async def _list(data_dir: Path | None, tenant: str | None) -> None:
    async with migrated_database(data_dir) as database, database.reading() as connection:
        tenant_id = None
        if tenant is not None:
            tenant_id = (await TenantRepository(connection).get(tenant)).id
        found = await KeyRepository(connection).list(tenant_id)
    heads = ("ID", "TENANT", "NAME", "SCOPES", "CREATED", "LAST USED", "STATE")
    print_table(heads, [_to_row(key) for key in found])


def _to_row(key: StoredKey) -> Sequence[str]:
    if key.revoked_at is not None:
        state = f"revoked {to_cell(key.revoked_at)}"
    elif not key.is_good:
        state = f"expired {to_cell(key.expires_at)}"
    else:
        state = "good" if key.expires_at is None else f"until {to_cell(key.expires_at)}"
    times = (to_cell(key.created_at), to_cell(key.last_used_at))
    return (key.id, key.tenant, key.name, ",".join(key.scopes), *times, state)


async def _revoke(data_dir: Path | None, key_id: str) -> None:
    async with migrated_database(data_dir) as database:
        await revoke_key(database, key_id, calling_user())
    _say(f"The key {key_id} is revoked.")


def parse_name(name: str, parameter: str) -> str:
    """Return a name, if keys and tenants may have it.

    Raises:
        BadParameter: they may not; the message calls it `parameter`.
    """
    try:
        return TypeAdapter[str](Name).validate_python(name)
    except ValidationError:
        raise typer.BadParameter(
            "a name has up to 100 letters, digits, blanks and . : @ / + - _", param_hint=parameter
        ) from None


def _parse_scopes(scopes: Sequence[str]) -> Sequence[Scope]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is not a scope: use {', '.join(SCOPES)}", param_hint="--scope"
        )
    return cast("list[Scope]", list(dict.fromkeys(scopes)))


def _parse_expires(expires: str | None) -> datetime | None:
    if expires is None:
        return None
    try:
        return datetime.now(UTC) + parse_duration(expires)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from None


def _say(sentence: str) -> None:
    """Print a message for people to stderr; stdout has only what programs read."""
    print(sentence, file=sys.stderr)
