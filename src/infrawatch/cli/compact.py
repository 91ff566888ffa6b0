"""`infrawatch compact`: compact the store now."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from infrawatch.cli.database import check_schema, chosen_database_url
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import run_until_stopped, set_up_logging
from infrawatch.runtime import settle
from infrawatch.store.chunks.repository import ChunkRepository
from infrawatch.store.database import Database
from infrawatch.upkeep import compaction
from infrawatch.upkeep.slots import empty_all_slots

Everything = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Close open windows too and empty the journal: as small as it gets. Viewers that "
        "were away get a new snapshot instead of what they missed.",
    ),
]


def compact(data_dir: DataDir = None, everything: Everything = False) -> None:
    """Compact all samples committed so far, with or without a running server.

    A server does this by itself, some minutes after samples arrive.
    """
    set_up_logging()
    settle()
    run_until_stopped(_compact(data_dir, is_all=everything))


async def _compact(data_dir: DataDir, *, is_all: bool) -> None:
    async with chosen_database_url(data_dir) as url:
        await check_schema(url)
        async with Database.open(url, write_deadline=compaction.STATEMENT_DEADLINE) as database:
            await _make_small(database, is_all=is_all)


async def _make_small(database: Database, *, is_all: bool) -> None:
    compacted = await compaction.compact_until(database, datetime.now(UTC), everything=is_all)
    print(f"{compacted.samples} samples compacted into open windows and {compacted.chunks} chunks.")
    until = compaction.EVERYTHING if is_all else compaction.closed_until()
    merged = await compaction.merge_until(database, until)
    print(f"{merged.samples} samples merged into {merged.chunks} chunks.")
    if is_all:
        async with database.committing() as connection:
            await ChunkRepository(connection).vacuum_head()
        print(f"{await empty_all_slots(database)} slots of the journal emptied.")
