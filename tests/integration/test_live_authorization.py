"""Live views end soon after what opened them: a session, or a token."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from httpx import AsyncClient
from identity_provider import AUDIENCE, CLIENT, Provider, now_s, providing
from integration.conftest import serving
from keys import OWN_PAGE, a_key, bearing
from viewing import DEADLINE_S
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_S = 15
"""Two seconds, a check, and for events the next heartbeat; the rest is for slow machines."""

NOT_ADMITTED = 4401


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with providing() as provider:
        provider.claims = {"preferred_username": "ada"}
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(shared_database_url: str, provider: Provider) -> AsyncIterator[list[str]]:
    """Two servers on one database."""
    settings = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "oidc_roles": "*=read"}
    async with (
        serving(shared_database_url, auth="required", oidc_audience=AUDIENCE, **settings) as one,
        serving(shared_database_url, auth="required", oidc_audience=AUDIENCE, **settings) as two,
    ):
        yield [one, two]


def live(url: str) -> str:
    return f"{url.replace('http', 'ws', 1)}/v1/live"


async def until_closed(viewer: ClientConnection) -> int | None:
    try:
        while True:
            await asyncio.wait_for(viewer.recv(), DEADLINE_S)
    except ConnectionClosed:
        return viewer.close_code


async def until_over(stream: AsyncIterator[str]) -> list[str]:
    return [line async for line in stream if line.startswith("event:")]


async def test_a_sign_out_ends_live_views_on_other_servers(
    servers: list[str], shared_database_url: str
) -> None:
    here, there = servers
    key = await a_key(shared_database_url, "read")
    async with AsyncClient(base_url=here, headers=OWN_PAGE, timeout=DEADLINE_S) as client:
        assert (await client.post("/v1/session", json={}, headers=bearing(key))).is_success
        ticket = (await client.post("/v1/live/tickets")).json()["ticket"]
        offered = [Subprotocol("infrawatch.v1"), Subprotocol(f"ticket.{ticket}")]
        async with (
            connect(live(there), subprotocols=offered, proxy=None) as viewer,
            AsyncClient(base_url=there, cookies=client.cookies, timeout=DEADLINE_S) as other,
            other.stream("GET", "/v1/live/sse", params={"match": "up"}) as stream,
            asyncio.timeout(DEADLINE_S),
        ):
            events = stream.aiter_lines()
            assert await anext(events) == "event: subscribed"
            assert (await client.delete("/v1/session")).status_code == 204
            async with asyncio.timeout(BOUND_S):
                closed, told = await asyncio.gather(until_closed(viewer), until_over(events))

    assert closed == NOT_ADMITTED
    assert told[-1] == "event: error"


async def test_a_token_that_expires_ends_its_live_views(
    servers: list[str], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrawatch.access.login.tokens.LEEWAY", timedelta(0))
    token = bearing(provider.token(exp=now_s() + 3))
    async with (
        connect(live(servers[0]), additional_headers=token, proxy=None) as viewer,
        asyncio.timeout(BOUND_S),
    ):
        assert await until_closed(viewer) == NOT_ADMITTED
