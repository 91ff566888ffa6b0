"""Retention: expired partitions are dropped one at a time, between two queries."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import structlog

from infrawatch.errors import StoreUnavailable
from infrawatch.store.database import Database
from infrawatch.store.inspection import InspectionRepository
from infrawatch.store.partitions import PartitionedTable, PartitionRepository

log = structlog.get_logger()

TRIES = 50
TRY_AGAIN_S = 0.2
"""Each try blocks new queries for at most 50 ms; with this many tries, one is likely to meet no
query that runs longer than that."""


async def retain(database: Database, table: PartitionedTable, retention: timedelta) -> None:
    """Drop the partitions that ended longer ago than `retention`, except those in constant use.

    A partition must have expired by both the database's and this machine's clock, so that no
    samples are lost because one of the two is wrong.
    """
    async with database.reading() as connection:
        starts = await PartitionRepository(connection).find(table)
        theirs = await InspectionRepository(connection).clock()
    first = (min(theirs, datetime.now(UTC)) - retention).date()
    for start in sorted(starts):
        if table.end_of(start) <= first:
            await drop(database, table, start)


async def drop(database: Database, table: PartitionedTable, start: date) -> bool:
    """Drop a partition; return whether it is gone."""
    name = table.to_name(start)
    for _ in range(TRIES):
        try:
            async with database.writing() as connection:
                await PartitionRepository(connection).drop(table, start)
        except StoreUnavailable as error:
            log.debug("partition_in_use", name=name, reason=str(error))
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            log.info("partition_dropped", name=name)
            return True
    log.warning("partition_not_dropped", name=name, reason="somebody reads all the time")
    return False
