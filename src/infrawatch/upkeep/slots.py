"""Slots of the journal: emptied when nobody can ask for what is in them any more."""

import asyncio
from datetime import UTC, datetime

import structlog

from infrawatch.errors import StoreUnavailable
from infrawatch.store.database import Database
from infrawatch.store.partitions import PartitionRepository

log = structlog.get_logger()

TRIES = 20
TRY_AGAIN_S = 0.1


async def empty_slots(database: Database, before: datetime) -> int:
    """Empty the slots of which everything is compacted and arrived before then; count them.

    A slot that somebody uses at the moment is left for the next time.
    """
    async with database.reading() as connection:
        slots = await PartitionRepository(connection).slots()
    emptied = 0
    for slot in slots:
        try:
            async with database.writing() as connection:
                emptied += await PartitionRepository(connection).empty_slot(slot, before=before)
        except StoreUnavailable as error:
            log.debug("journal_slot_in_use", slot=slot, reason=str(error))
    return emptied


async def empty_all_slots(database: Database) -> int:
    """Empty every slot of which everything is compacted, once nobody reads it any more.

    What began to read before everything was compacted still needs the journal.
    """
    async with database.reading() as connection:
        horizon = await PartitionRepository(connection).newest_transaction()
    for _ in range(TRIES):
        async with database.reading() as connection:
            if await PartitionRepository(connection).are_all_newer(horizon):
                return await empty_slots(database, datetime.now(UTC))
        await asyncio.sleep(TRY_AGAIN_S)
    return 0
