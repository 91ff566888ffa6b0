"""Answers larger than what a connection holds: made as they are taken, and not kept for long."""

import asyncio
import inspect
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from httpx import AsyncClient
from integration.conftest import serving
from pushing import find_count, push, series
from serving_process import serving_process
from slow_connections import connection
from stored import named, store

from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.model.selector import parse_selector
from infrawatch.model.timerange import FAR_FUTURE_US, TimeRange
from infrawatch.query import encoding, streaming
from infrawatch.query import plan as query_plan
from infrawatch.query.grouping import Ranges
from infrawatch.query.limits import QueryContext, ReadLimits
from infrawatch.query.plan import Reader
from infrawatch.query.promql import router as promql
from infrawatch.query.streaming import Pieces
from infrawatch.store.database import Database

SECOND = 1_000_000
START = 1_790_000_000
HOSTS = 50
SPAN = {"start": str(START), "end": str(START + 10)}
RANGE = "/v1/range?" + urlencode({"match": "up", "step": "1ms", "fn": "last", **SPAN})
"""10,000 steps of each series: ten megabytes, more than the buffers of a connection."""

PROMQL = "/api/v1/query_range?" + urlencode({"query": "up", "step": "0.001", **SPAN})
WITHIN_S = 60


def asked(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def store_series(database: Database) -> None:
    told = {named("up", host=f"h{n}"): [(START * SECOND, n / 7)] for n in range(HOSTS)}
    await store(database, told)


@pytest.mark.parametrize("path", [RANGE, PROMQL])
async def test_a_client_that_disconnects_leaves_nothing_of_its_answer_in_memory(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await store_series(database)
    made: list[Pieces] = []
    encode_ranges, in_pieces = encoding.encode_ranges, encoding.in_pieces

    def ranges_noted(ranges: Ranges, precision: str) -> Pieces:
        made.append(encode_ranges(ranges, precision))
        return made[-1]

    def pieces_noted(parts: Iterator[bytes]) -> Pieces:
        made.append(in_pieces(parts))
        return made[-1]

    monkeypatch.setattr(encoding, "encode_ranges", ranges_noted)
    monkeypatch.setattr(promql, "in_pieces", pieces_noted)
    async with serving(database_url) as url:
        async with connection(url, asked(path)) as who:
            assert b"200 OK" in await who.reader.readuntil(b"\r\n")
        [pieces] = made
        async with asyncio.timeout(WITHIN_S):
            while inspect.getgeneratorstate(pieces) != inspect.GEN_CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_client_that_reads_too_slowly_is_disconnected_while_others_are_served(
    database_url: str, database: Database
) -> None:
    await store_series(database)
    cut = 'infrawatch_connections_cut_total{reason="answer_deadline"}'
    strict = {"ANSWER_DEADLINE": "1s", "ANSWER_MIN_BYTES_PER_S": "1000000000"}

    async with (
        asyncio.timeout(WITHIN_S),
        serving_process(database_url, **strict) as server,
        AsyncClient(base_url=server.url, timeout=WITHIN_S) as client,
        connection(server.url, asked(RANGE)) as slow,
    ):
        while cut not in (await client.get("/metrics")).text:
            await slow.reader.readexactly(1)
            assert (await push(client, series("healthy"))).status_code == 200
        assert await find_count(client, cut) == 1


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        ("/v1/series?match=up&limit=10000", "series"),
        ("/v1/latest?match=up&max_age=all", "series"),
        ("/v1/labels/host/values", "values"),
        ("/api/v1/series?match[]=up", "data"),
    ],
)
async def test_long_lists_are_sent_in_pieces_and_short_ones_at_once(
    client: AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, path: str, listed: str
) -> None:
    """A streamed response has no Content-Length, and is encoded outside the event loop."""
    await store_series(database)
    short = await client.get(path)
    monkeypatch.setattr(streaming, "_AT_ONCE", HOSTS - 1)
    long = await client.get(path)

    assert "content-length" in short.headers
    assert "content-length" not in long.headers
    assert long.json() == short.json()
    assert len(long.json()[listed]) == HOSTS


async def test_few_queries_hold_many_samples_at_once_and_those_with_few_do_not_wait(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for the one connection that there is: those that hold or wait have none."""
    monkeypatch.setattr(query_plan, "_LARGE_RESULT_SAMPLES", 1)
    await store_series(database)
    await store(database, {named("one"): [(START * SECOND, 1.0)]})
    limits = ReadLimits(1_000, 1_000, timedelta(seconds=WITHIN_S))
    span = TimeRange(0, FAR_FUTURE_US)
    inside, most, may_leave = 0, 0, asyncio.Event()

    async def hold(*queries: str) -> int:
        nonlocal inside, most
        selectors = [parse_selector(query) for query in queries]
        context = QueryContext(DEFAULT_TENANT_ID)
        async with reader.find(context, dict.fromkeys(selectors, span)) as found:
            inside += 1
            most = max(most, inside)
            await may_leave.wait()
            inside -= 1
        return sum(len(one.columns) for one in found.values())

    async with (
        asyncio.timeout(WITHIN_S),
        Database.open(database_url, read_pool_size=1) as one_connection,
        asyncio.TaskGroup() as tasks,
    ):
        reader = Reader(one_connection, uuid4(), limits)
        held = [tasks.create_task(hold("up", 'up{host!="h0"}')) for _ in range(4)]
        while inside < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        few = tasks.create_task(hold("one"))
        while inside < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        may_leave.set()

    assert [task.result() for task in held] == [2 * HOSTS - 1] * 4
    assert (few.result(), most) == (1, 3)
