"""`infrawatch migrate`: the schema this version speaks."""

from typing import Annotated

import typer

from infrawatch.cli.database import database_meant, find_schema
from infrawatch.cli.options import DataDir, read_settings
from infrawatch.cli.serving import run_until_stopped
from infrawatch.settings import LogSettings
from infrawatch.store.migrations import move_to, newest_revision, upgrade
from infrawatch.telemetry import configure_logging

To = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEMA",
        help="Another schema than the newest, to go back to an older version of InfraWatch: stop "
        "the servers first, then run this with the newer version.",
    ),
]


def migrate(data_dir: DataDir = None, to: To = None) -> None:
    """Bring the database to the schema this version speaks; nothing happens if it is there.

    Without --data-dir it is the database in INFRAWATCH_DATABASE_URL, if that is set.
    """
    logs = read_settings(LogSettings)
    configure_logging(logs.log_format, logs.log_level)
    run_until_stopped(_migrate(data_dir, to))


async def _migrate(data_dir: DataDir, to: To) -> None:
    async with database_meant(data_dir, may_be_new=True) as url:
        await find_schema(url)  # or says in one sentence why it cannot be had
        if to is None:
            await upgrade(url)
        else:
            await move_to(url, to)
    print(f"The database is at schema {to or newest_revision()}.")
