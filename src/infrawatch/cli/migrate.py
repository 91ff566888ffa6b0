"""`infrawatch migrate`: the schema this version speaks."""

from infrawatch.cli.database import database_meant, find_schema
from infrawatch.cli.options import DataDir, read_settings
from infrawatch.cli.serving import run_until_stopped
from infrawatch.settings import LogSettings
from infrawatch.store.migrations import newest_revision, upgrade
from infrawatch.telemetry import configure_logging


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the schema this version speaks; nothing happens if it is there.

    Without --data-dir it is the database in INFRAWATCH_DATABASE_URL, if that is set.
    """
    logs = read_settings(LogSettings)
    configure_logging(logs.log_format, logs.log_level)
    run_until_stopped(_migrate(data_dir))


async def _migrate(data_dir: DataDir) -> None:
    async with database_meant(data_dir) as url:
        await find_schema(url)  # or says in one sentence why it cannot be had
        await upgrade(url)
    print(f"The database is at schema {newest_revision()}.")
