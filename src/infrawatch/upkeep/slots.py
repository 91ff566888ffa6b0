"""Slots of the journal: emptied once no reader can need their rows any more."""

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


class SpentSlots(NamedTuple):
    """The oldest slots, found to hold only compacted rows that arrived before `before`.

    A reader with a snapshot older than `transaction` may not see the compaction and need the slots.
    """

    slots: Sequence[str]
    before: datetime
    transaction: int


async def find_spent(database: Database, before: datetime) -> SpentSlots:
    """Find the slots that can be emptied once no reader needs them, oldest first.

    Those after the first one that is still needed are too: the journal has everything that arrived
    after its oldest row, which is how those who resume know that they miss nothing.

    Transactions under way may still add rows to a slot, which a reader considered new enough would
    need; so `before` is limited to the time since which they are under way.
    """
    async with database.reading() as connection:
        before = min(before, from_us(await WriterRepository(connection).under_way_since()))
    async with database.reading() as connection:
        partitions = PartitionRepository(connection)
        spent: list[str] = []
        for slot in await partitions.slots():
            if not await partitions.is_spent(slot, before):
                break
            spent.append(slot)
        return SpentSlots(spent, before, await partitions.newest_transaction())


async def empty_slots(database: Database, spent: SpentSlots) -> int:
    """Empty the slots unless a reader may still need them; return how many were emptied.

    A slot in use at the moment is left for the next call, and so are those after it.
    """
    async with database.reading() as connection:
        if not await PartitionRepository(connection).are_all_newer(spent.transaction):
            return 0
    for emptied, slot in enumerate(spent.slots):
        if not await _empty(database, slot, spent.before):
            return emptied
    return len(spent.slots)


async def empty_all_slots(database: Database) -> int:
    """Empty every slot that is fully compacted; wait briefly for readers to finish."""
    spent = await find_spent(database, datetime.now(UTC))
    emptied = 0
    for _ in range(TRIES):
        emptied += await empty_slots(database, spent._replace(slots=spent.slots[emptied:]))
        if emptied == len(spent.slots):
            break
        await asyncio.sleep(TRY_AGAIN_S)
    return emptied


async def _empty(database: Database, slot: str, before: datetime) -> bool:
    try:
        async with database.writing() as connection:
            return await PartitionRepository(connection).empty_slot(slot, before=before)
    except StoreUnavailable as error:
        log.debug("journal_slot_in_use", slot=slot, reason=str(error))
        return False
