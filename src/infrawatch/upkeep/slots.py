"""Slots of the journal: emptied when nobody can ask for what is in them any more."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from infrawatch.errors import StoreUnavailable
from infrawatch.model.timerange import from_us
from infrawatch.store.database import Database
from infrawatch.store.partitions import PartitionRepository
from infrawatch.store.writers import WriterRepository

log = structlog.get_logger()

TRIES = 20
TRY_AGAIN_S = 0.1


class Spent(NamedTuple):
    """Slots of which everything was compacted, and had arrived before `before`, when we looked.

    Whoever began to read before `transaction` may not know that it is compacted, and need them.
    """

    slots: Sequence[str]
    before: datetime
    transaction: int


async def find_spent(database: Database, before: datetime) -> Spent:
    """The slots to empty as soon as nobody reads them any more.

    What is being committed may arrive in them yet, and be needed by whom we take for new enough.
    """
    async with database.reading() as connection:
        before = min(before, from_us(await WriterRepository(connection).under_way_since()))
    async with database.reading() as connection:
        partitions = PartitionRepository(connection)
        slots = [one for one in await partitions.slots() if await partitions.is_spent(one, before)]
        return Spent(slots, before, await partitions.newest_transaction())


async def empty_slots(database: Database, spent: Spent) -> int:
    """Empty the slots, unless somebody still reads who needs them; count them.

    A slot that somebody uses at the moment is left for the next time.
    """
    async with database.reading() as connection:
        if not await PartitionRepository(connection).are_all_newer(spent.transaction):
            return 0
    emptied = 0
    for slot in spent.slots:
        try:
            async with database.writing() as connection:
                partitions = PartitionRepository(connection)
                emptied += await partitions.empty_slot(slot, before=spent.before)
        except StoreUnavailable as error:
            log.debug("journal_slot_in_use", slot=slot, reason=str(error))
    return emptied


async def empty_all_slots(database: Database) -> int:
    """Empty every slot of which everything is compacted; wait a little for those who read."""
    spent = await find_spent(database, datetime.now(UTC))
    emptied = 0
    for _ in range(TRIES):
        emptied += await empty_slots(database, spent)
        if emptied == len(spent.slots):
            break
        await asyncio.sleep(TRY_AGAIN_S)
    return emptied
