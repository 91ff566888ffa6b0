"""The command line: finds the module of the requested command."""

import gc
from collections.abc import Generator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

_NAMES = (
    "up",
    "serve",
    "migrate",
    "agent",
    "watch",
    "compact",
    "database-url",
    "keys",
    "tenants",
    "limits",
    "password",
    "sessions",
    "sql-users",
    "openapi",
    "healthcheck",
    "doctor",
)


class _Commands(TyperGroup):
    """Imports a command only when it is requested.

    The server takes a second to import, and `database-url` or a container's `healthcheck` do not
    need it.
    """

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return list(_NAMES)

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if near := args[0] not in _NAMES and get_close_matches(args[0], _NAMES, n=1):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:
        if cmd_name not in _NAMES:
            return None
        name = cmd_name.replace("-", "_")
        with without_collector():
            found = getattr(import_module(f"infrawatch.cli.{name}"), name)
        if not isinstance(found, typer.Typer):  # otherwise it has subcommands
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        assert isinstance(command, TyperCommand | TyperGroup)
        command.name = cmd_name  # groups have no name, and `--help` would list a blank
        return command


@contextmanager
def without_collector() -> Generator[None, None, None]:
    """Disable garbage collection during an import: it would take a fifth of the start-up time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the values of local variables would show passwords.
    pretty_exceptions_enable=False,
)


@app.callback()
def _infrawatch() -> None:
    """Telemetry on PostgreSQL: acknowledged means committed."""
