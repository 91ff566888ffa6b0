"""`infrawatch migrate`: brings the database to the schema of this version."""

from typing import Annotated

import typer

from infrawatch.cli.database import chosen_database_url, find_schema
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import run_until_stopped, set_up_logging
from infrawatch.store.migrations import move_to, upgrade
from infrawatch.store.schema import newest_revision

To = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEMA",
        help="Another schema than the newest, to go back to an older version of InfraWatch: stop "
        "the servers first, then run this with the newer version.",
    ),
]


def migrate(data_dir: DataDir = None, to: To = None) -> None:
    """Migrate the database to the schema of this version; does nothing if it is up to date.

    Without --data-dir it is the database in INFRAWATCH_DATABASE_URL, if that is set.
    """
    set_up_logging()
    run_until_stopped(_migrate(data_dir, to))


async def _migrate(data_dir: DataDir, to: To) -> None:
    async with chosen_database_url(data_dir, may_be_new=True) as url:
        await find_schema(url)  # fails with one sentence if it is unusable
        if to is None:
            await upgrade(url)
        else:
            await move_to(url, to)
    print(f"The database is at schema {to or newest_revision()}.")
