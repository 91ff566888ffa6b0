"""Answers larger than what a connection holds: made as they are taken, and not kept for long."""

import asyncio
import inspect
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from dawdling import connection
from httpx import AsyncClient
from integration.conftest import serving
from pushing import find_count, push, series
from serving_process import serving_process
from stored import named, store

from infrawatch.query import encoding, streaming
from infrawatch.query.grouping import Ranges
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
