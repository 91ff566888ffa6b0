"""How many samples a pass takes, and when they have to be counted for it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from stored import named, store

from infrawatch.model.timerange import now_us
from infrawatch.store import compaction as store_compaction
from infrawatch.store.database import Database
from infrawatch.upkeep import compaction
from infrawatch.upkeep.closing import Compacted


async def store_some(database: Database, hosts: int, group: int = 0) -> None:
    start_us = now_us() - 3_600_000_000 + group * 1_000_000_000
    told = [(start_us + n * 15_000_000, float(n)) for n in range(60)]
    await store(database, {named("m", host=f"h{host}"): told for host in range(hosts)})


async def test_shards_chosen_by_their_backlogs_are_not_counted_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_some(database, 12)
    monkeypatch.setattr(store_compaction, "_EARLIER_CUT", text("SELECT 1 / 0"))
    with pytest.raises(DBAPIError, match="zero"):
        await compaction.compact(database, [0])
    assert (await compaction.compact_until(database, datetime.now(UTC))).samples == 720


async def test_a_single_shard_is_counted_because_it_may_hold_any_number(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group in range(4):
        await store_some(database, 1, group)
    compact, passes = compaction.compact, []

    async def noting(*args: Any, **kwargs: Any) -> Compacted:
        passes.append(await compact(*args, **kwargs))
        return passes[-1]

    monkeypatch.setattr(compaction, "compact", noting)
    monkeypatch.setattr(compaction, "PASS_SAMPLES", 100)
    assert (await compaction.compact_until(database, datetime.now(UTC))).samples == 240
    assert max(one.samples for one in passes) <= 100
