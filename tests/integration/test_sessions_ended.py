"""What ends a session ends it for good: another sign-in, a sign-out, a new password."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from commands import infrawatch
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from keys import TESTS, a_key, bearing
from starlette.requests import Request
from typing_extensions import override

from infrawatch.access.keys.keyring import KeyRing
from infrawatch.access.login import sessions as login_sessions
from infrawatch.access.login.passwords import ADMINISTRATOR, set_password
from infrawatch.access.login.sessions import Sessions
from infrawatch.errors import StoreUnavailable
from infrawatch.model.timerange import from_us, now_us
from infrawatch.store.accounts.sessions import SessionRepository, StoredSession
from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "correct horse battery"
COOKIE = "infrawatch_session"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_database_url: str) -> AsyncIterator[str]:
    async with Database.open(shared_database_url, write_pool_size=1) as database:
        await set_password(database, PASSWORD, TESTS)
    async with serving(shared_database_url, auth="required") as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(url: str) -> AsyncIterator[AsyncClient]:
    """A browser on a page of ours, with no cookie."""
    async with AsyncClient(base_url=url, timeout=30, headers={"Origin": url}) as client:
        yield client


async def sign_in(client: AsyncClient, key: str | None = None) -> str:
    """With a key, or else the password; gives the cookie."""
    headers, body = (bearing(key), {}) if key else ({}, {"password": PASSWORD})
    answer = await client.post("/v1/session", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return client.cookies[COOKIE]


async def status_with(client: AsyncClient, cookie: str) -> int:
    """What a copy of a cookie opens."""
    async with AsyncClient(base_url=client.base_url, timeout=30) as other:
        answer = await other.get("/v1/labels", headers={"Cookie": f"{COOKIE}={cookie}"})
        return answer.status_code


async def test_signing_in_again_ends_the_session_before(
    visitor: AsyncClient, shared_database_url: str
) -> None:
    keys = [await a_key(shared_database_url, "read", "admin") for _ in range(2)]
    for way in (None, keys[0], keys[1], None):
        before = await sign_in(visitor)
        after = await sign_in(visitor, way)
        session_id = before.partition(".")[0]
        trail = (await visitor.get("/v1/audit")).json()["entries"]

        assert [await status_with(visitor, one) for one in (before, after)] == [401, 200]
        assert ("session.ended", session_id) in {(one["action"], one["target"]) for one in trail}


async def test_a_sign_in_that_fails_ends_nothing(visitor: AsyncClient) -> None:
    cookie = await sign_in(visitor)
    wrong = await visitor.post("/v1/session", json={"password": "a guess, and a wrong one"})
    foreign = await visitor.post(
        "/v1/session", json={"password": PASSWORD}, headers={"Origin": "https://evil.example.com"}
    )

    assert (wrong.status_code, foreign.status_code) == (401, 403)
    assert await status_with(visitor, cookie) == 200


async def test_nobody_ends_a_session_by_its_id(visitor: AsyncClient) -> None:
    cookie = await sign_in(visitor)
    forged = f"{cookie.partition('.')[0]}.{'x' * 43}"
    visitor.cookies.clear()
    for method, body in (("POST", {"password": PASSWORD}), ("DELETE", None)):
        answer = await visitor.request(
            method, "/v1/session", json=body, headers={"Cookie": f"{COOKIE}={forged}"}
        )
        assert answer.is_success
        visitor.cookies.clear()

    assert await status_with(visitor, cookie) == 200


async def test_a_password_begins_no_session_once_another_is_set(
    database_url: str,
) -> None:
    """Though servers know passwords for two seconds."""
    infrawatch("password", "set", url=database_url, stdin=f"{PASSWORD}\n")
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30, headers={"Origin": url}) as client,
        Database.open(database_url, write_pool_size=1) as database,
    ):
        await sign_in(client)
        await set_password(database, "another one altogether", TESTS)
        answer = await client.post("/v1/session", json={"password": PASSWORD})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert execute(database_url, "SELECT count(*) FROM sessions") == "0"


async def test_a_session_that_is_read_while_it_ends_is_not_kept(
    shared_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_read, may_go_on = asyncio.Event(), asyncio.Event()

    class Slow(SessionRepository):
        @override
        async def find(self, session_id: str, idle: timedelta) -> StoredSession | None:
            found = await super().find(session_id, idle)
            was_read.set()
            await may_go_on.wait()
            return found

    monkeypatch.setattr(login_sessions, "SessionRepository", Slow)
    monkeypatch.setattr(login_sessions, "TRUSTED_S", 1_000.0)
    async with Database.open(shared_database_url, write_pool_size=1) as database:
        day = timedelta(days=1)
        sessions = Sessions(database, KeyRing(database), idle=day, life=day)
        started = await sessions.begin(_request(""), ADMINISTRATOR, "password")
        request = _request(started.cookie)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(sessions.find(request))
            await was_read.wait()
            tasks.create_task(sessions.end(started.principal))
            await asyncio.sleep(0)  # it has begun
            may_go_on.set()

        assert reading.result() is not None
        assert await sessions.find(request) is None


async def test_known_sessions_outlast_an_outage_and_requests_that_are_given_up(
    shared_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(SessionRepository):
        @override
        async def find(self, session_id: str, idle: timedelta) -> StoredSession | None:
            reading.set()
            await may_fail.wait()
            raise StoreUnavailable("PostgreSQL is away")

    reading, may_fail = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(login_sessions, "TRUSTED_S", 0.0)
    async with Database.open(shared_database_url, write_pool_size=1) as database:
        day = timedelta(days=1)
        sessions = Sessions(database, KeyRing(database), idle=day, life=day)
        started = await sessions.begin(_request(""), ADMINISTRATOR, "password")
        request, principal = _request(started.cookie), started.principal
        assert await sessions.find(request) is not None
        monkeypatch.setattr(login_sessions, "SessionRepository", Away)
        given_up = asyncio.ensure_future(sessions.find(request))
        await reading.wait()
        given_up.cancel()
        may_fail.set()
        elsewhere = Sessions(database, KeyRing(database), idle=day, life=day)

        assert await sessions.find(request) is not None
        assert await elsewhere.honours(principal)
        assert not await elsewhere.honours(principal._replace(good_until=from_us(now_us())))


def _request(cookie: str) -> Request:
    headers = [(b"host", b"localhost"), (b"cookie", f"{COOKIE}={cookie}".encode())]
    scope = {"type": "http", "scheme": "http", "path": "/", "query_string": b"", "method": "GET"}
    return Request(scope | {"headers": headers, "server": ("localhost", 80)})
