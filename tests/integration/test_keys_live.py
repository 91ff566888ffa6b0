"""Keys on the live side: headers, tickets for pages, and viewers whose key is revoked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus

import pytest
from httpx import AsyncClient
from integration.conftest import serving
from keys import a_key, bearing
from pushing import push, series
from serving_process import serving_process
from viewing import DEADLINE_S
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from infrawatch.client.connection import Client
from infrawatch.errors import RequestRefused

OURS = Subprotocol("infrawatch.v1")


@pytest.fixture
async def servers(database_url: str) -> AsyncIterator[tuple[str, str]]:
    """Two servers on one database, which both need keys."""
    async with (
        serving(database_url, auth="required") as first,
        serving(database_url, auth="required") as second,
    ):
        yield first, second


def live(url: str) -> str:
    return f"{url.replace('http', 'ws')}/v1/live"


async def revoke(url: str, key: str, admin: str) -> None:
    async with AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.delete(f"/v1/keys/{key.split('_')[1]}", headers=bearing(admin))
        assert answer.status_code == 204


async def status_of(url: str, *subprotocols: str, **headers: str) -> int:
    """What an upgrade is answered: 101 if it is one."""
    offered = [Subprotocol(one) for one in subprotocols] or None
    try:
        async with connect(live(url), subprotocols=offered, additional_headers=headers):
            return HTTPStatus.SWITCHING_PROTOCOLS
    except InvalidStatus as error:
        status: int = json.loads(error.response.body)["status"]
        return status if status == error.response.status_code else 0


async def a_ticket(url: str, key: str) -> str:
    async with AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.post("/v1/live/tickets", headers=bearing(key))
        assert (answer.status_code, answer.json()["expires_in_s"]) == (201, 60)
        ticket: str = answer.json()["ticket"]
        return ticket


async def until_closed(connection: ClientConnection) -> tuple[int | None, str | None]:
    try:
        while True:
            await asyncio.wait_for(connection.recv(), DEADLINE_S)
    except ConnectionClosed:
        return connection.close_code, connection.close_reason


async def test_a_websocket_needs_a_key_that_may_read(
    servers: tuple[str, str], database_url: str
) -> None:
    url, _ = servers
    reader, writer = await a_key(database_url, "read"), await a_key(database_url, "write")

    assert await status_of(url) == 401
    assert await status_of(url, **bearing(reader)) == 101
    assert await status_of(url, **bearing(writer)) == 403
    assert await status_of(url, **bearing("iw_abcdef_" + 43 * "x")) == 401


async def test_an_upgrade_that_is_refused_is_no_error_of_the_server(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await a_key(database_url, "admin")  # so that none is printed
    async with serving_process(database_url, AUTH="required") as server:
        assert await status_of(server.url) == 401
        async with Client(server.url) as client, aclosing(client.live("up")) as updates:
            with pytest.raises(RequestRefused, match="this needs a key"):
                await anext(updates)

    logged = capfd.readouterr().err
    assert "reason=no_key" in logged
    assert "ERROR" not in logged


async def test_a_ticket_is_good_once_on_any_server(
    servers: tuple[str, str], database_url: str
) -> None:
    first, second = servers
    ticket = f"ticket.{await a_ticket(first, await a_key(database_url, 'read'))}"

    async with connect(live(second), subprotocols=[OURS, Subprotocol(ticket)]) as viewer:
        await viewer.send('{"type":"subscribe","id":"a","match":"up"}')
        assert json.loads(await viewer.recv())["type"] == "subscribed"
        assert viewer.subprotocol == OURS, "no ticket is repeated"

    assert await status_of(first, OURS, ticket) == 401
    assert await status_of(second, OURS, ticket) == 401


async def test_an_unknown_ticket_opens_nothing(servers: tuple[str, str]) -> None:
    assert await status_of(servers[0], OURS, "ticket.0123456789") == 401


async def test_a_key_without_read_gets_no_ticket(
    servers: tuple[str, str], database_url: str
) -> None:
    writer = bearing(await a_key(database_url, "write"))

    async with AsyncClient(base_url=servers[0], timeout=30) as client:
        assert (await client.post("/v1/live/tickets")).status_code == 401
        assert (await client.post("/v1/live/tickets", headers=writer)).status_code == 403


async def test_a_viewer_is_disconnected_when_its_key_is_revoked(
    servers: tuple[str, str], database_url: str
) -> None:
    """By a header, by a ticket, as an event stream and with our client: on the other server."""
    first, second = servers
    admin, reader = await a_key(database_url, "admin", "write"), await a_key(database_url, "read")
    ticket = f"ticket.{await a_ticket(first, reader)}"
    unused = f"ticket.{await a_ticket(first, reader)}"
    async with AsyncClient(base_url=first, headers=bearing(admin), timeout=30) as writer:
        await push(writer, series("up"))

    async with (
        connect(live(second), additional_headers=bearing(reader)) as by_header,
        connect(live(second), subprotocols=[OURS, Subprotocol(ticket)]) as by_ticket,
        AsyncClient(base_url=second, headers=bearing(reader), timeout=DEADLINE_S) as http,
        http.stream("GET", "/v1/live/sse", params={"match": "up"}) as stream,
        Client(second, key=reader) as client,
        aclosing(client.live("up")) as updates,
    ):
        assert [one.metric for one in (await anext(updates)).series] == ["up"]
        await revoke(first, reader, admin)
        closed = await asyncio.gather(until_closed(by_header), until_closed(by_ticket))
        events = [line async for line in stream.aiter_lines() if line]
        with pytest.raises(RequestRefused, match="401"):
            await asyncio.wait_for(anext(updates), DEADLINE_S)

    assert set(closed) == {(4401, "your key was revoked or has expired")}
    assert events[0] == "event: subscribed"
    assert events[-2] == "event: error"
    assert json.loads(events[-1].removeprefix("data: "))["problem"]["status"] == 401
    assert await status_of(second, OURS, unused) == 401, "tickets of a revoked key are invalid"
