"""How commands run: logging as configured, until they end or are stopped by a signal."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from signal import SIGINT, SIGTERM

import typer
import uvloop

from infrawatch.cli.options import read_settings
from infrawatch.settings import LogSettings
from infrawatch.telemetry import configure_logging


def set_up_logging() -> None:
    """Configure logging from INFRAWATCH_LOG_FORMAT and INFRAWATCH_LOG_LEVEL.

    Raises:
        CannotStart: one of them is invalid.
    """
    logs = read_settings(LogSettings)
    configure_logging(logs.log_format, logs.log_level)


def command_group(help_text: str) -> typer.Typer:
    """Create a group of commands, for which logging is set up."""
    return typer.Typer(
        help=help_text, callback=set_up_logging, no_args_is_help=True, add_completion=False
    )


def run_until_stopped(work: Coroutine[object, object, None]) -> None:
    """Run `work` to its end, or until Ctrl-C or SIGTERM.

    Both cancel it, so that it closes its resources in reverse order. A second signal also cancels
    what this shutdown is waiting for.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_cancelled_by_signals(work))


async def _cancelled_by_signals(work: Coroutine[object, object, None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await work
