"""The tail without viewers queries nothing and keeps nothing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import numpy as np
from pydantic_core import from_json
from scripted_server import eventually
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from infrawatch.errors import StoreUnavailable
from infrawatch.live.hub import Hub, HubStart
from infrawatch.live.subscription import heartbeat_frame
from infrawatch.live.tail import Tail
from infrawatch.live.topic import TopicKey
from infrawatch.model.samples import Columns
from infrawatch.model.selector import parse_selector
from infrawatch.store.connections import Lender
from infrawatch.store.database import Database, create_engine
from infrawatch.store.journal import Entry
from infrawatch.store.writers import WriterPositions

POLL = timedelta(milliseconds=10)
WINDOW = timedelta(minutes=10)
ENTRY = Entry(1, 1, 1, Columns(np.array([1]), np.array([1]), np.array([1.0])))


class Away(Database):
    """Counts connections, and has none."""

    def __init__(self) -> None:
        engine = create_engine("postgresql://nowhere")
        super().__init__(Lender(engine, pool_size=1), engine)
        self.asked = 0

    @override
    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        self.asked += 1
        raise StoreUnavailable("it is away")
        yield


class CountingHub(Hub):
    """Tells how often it was looked whether there are viewers."""

    looks = 0

    @property
    @override
    def has_viewers(self) -> bool:
        self.looks += 1
        return super().has_viewers


def hub_and_tail(database: Database) -> tuple[CountingHub, Tail]:
    async def names_of(_ids: object) -> list[object]:
        return []

    hub = CountingHub(UUID(int=1), names_of, WINDOW, max_tenant_series=1_000)  # type: ignore[arg-type]  # there are no names
    return hub, Tail(database, hub, poll=POLL, replay_window=WINDOW)


async def test_without_viewers_nothing_is_read_and_nothing_kept() -> None:
    database = Away()
    hub, tail = hub_and_tail(database)
    running = asyncio.ensure_future(tail.run())
    for _ in range(3):
        tail.offer(ENTRY)
        looks = hub.looks
        await eventually(lambda looks=looks: hub.looks > looks)  # type: ignore[misc]  # a default
    running.cancel()
    assert database.asked == 0
    assert len(tail._waiting) == 0
    assert tail.lag_s() == 0


async def test_the_hub_stops_after_the_last_viewer() -> None:
    database = Away()
    hub, tail = hub_and_tail(database)
    hub.start(HubStart(WriterPositions({}, 1), [], np.empty(0, np.int64), []))
    running = asyncio.ensure_future(tail.run())
    await eventually(lambda: not hub.is_active)
    running.cancel()
    assert database.asked == 0


async def test_lag_grows_while_the_database_cannot_be_asked() -> None:
    hub, tail = hub_and_tail(Away())
    hub.start(HubStart(WriterPositions({}, 1), [], np.empty(0, np.int64), []))
    with hub.joined(TopicKey(1, parse_selector("m")), "lossless"):
        running = asyncio.ensure_future(tail.run())
        await eventually(lambda: tail.lag_s() > 0)
        earlier = tail.lag_s()
        await eventually(lambda: tail.lag_s() > earlier)
        running.cancel()


async def test_a_heartbeat_has_the_time_since_the_database_last_answered() -> None:
    hub, _ = hub_and_tail(Away())
    hub.note_applied(1, asyncio.get_running_loop().time() - 7)
    assert from_json(heartbeat_frame(hub))["age_ms"] >= 7_000
    hub.note_applied(2, asyncio.get_running_loop().time())
    assert from_json(heartbeat_frame(hub))["age_ms"] < 7_000
