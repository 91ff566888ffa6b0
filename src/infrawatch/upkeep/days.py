"""Days of chunks that retention has passed: dropped whole, between two queries."""

import asyncio
from datetime import date

import structlog

from infrawatch.errors import StoreUnavailable
from infrawatch.store.database import Database
from infrawatch.store.partitions import PartitionRepository

log = structlog.get_logger()

TRIES = 50
TRY_AGAIN_S = 0.2
"""Each try stops those who begin to read for 50 ms at most; so many find a moment without a query
that is longer than that."""


async def drop_day(database: Database, day: date) -> bool:
    """Drop a day; say whether it is gone. If it is in use all the time it is left alone."""
    for _ in range(TRIES):
        try:
            async with database.writing() as connection:
                await PartitionRepository(connection).drop_day(day)
        except StoreUnavailable as error:
            log.debug("day_in_use", day=str(day), reason=str(error))
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            log.info("day_dropped", day=str(day))
            return True
    log.warning("day_not_dropped", day=str(day), reason="somebody reads all the time")
    return False
