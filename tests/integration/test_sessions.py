"""Sessions of people: a password or a key is traded for a cookie that no other page can use."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from commands import infrawatch
from conftest import execute
from httpx import AsyncClient, Response
from integration.conftest import serving
from keys import OWN_PAGE, TESTS, a_key, bearing
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from infrawatch.access.keys.changes import revoke_key
from infrawatch.access.keys.wrong_keys import AT_ONCE, WrongKeys
from infrawatch.access.limits.rates import Rates
from infrawatch.access.login.passwords import AdminPassword, set_password
from infrawatch.errors import CannotStart
from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "correct horse battery"
COOKIE = "infrawatch_session"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_database_url: str) -> AsyncIterator[str]:
    """A server behind a proxy on this machine, with a password."""
    async with Database.open(shared_database_url, write_pool_size=1) as database:
        await set_password(database, PASSWORD, TESTS)
    async with serving(
        shared_database_url, auth="required", trusted_proxies="127.0.0.0/8"
    ) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(url: str) -> AsyncIterator[AsyncClient]:
    """A browser without cookies, on a page of ours; each at an address of its own."""
    async with browser(url) as client:
        yield client


_addresses = iter(range(1, 250))


def browser(url: str) -> AsyncClient:
    headers = {"Origin": url, "X-Forwarded-For": f"192.0.2.{next(_addresses)}"}
    return AsyncClient(base_url=url, timeout=30, headers=headers)


async def sign_in(client: AsyncClient, **body: Any) -> Response:
    answer = await client.post("/v1/session", json=body or {"password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return answer


async def until_refused(client: AsyncClient) -> None:
    while (answer := await client.get("/v1/labels")).status_code != 401:  # within two seconds
        assert answer.status_code == 200


async def test_a_user_signs_in_with_the_password_and_signs_out(
    visitor: AsyncClient,
) -> None:
    before = (await visitor.get("/v1/session")).json()
    refused = await visitor.get("/v1/labels")
    answer = await sign_in(visitor)
    during = (await visitor.get("/v1/session")).json()
    answered = await visitor.get("/v1/labels")
    made = await visitor.post("/v1/keys", json={"name": "k", "scopes": ["read"]})
    kept = dict(visitor.cookies)
    left = await visitor.delete("/v1/session")
    after = (await visitor.get("/v1/session")).json()

    assert before == {
        "authentication": "required",
        "user": None,
        "ways": {"password": True, "oidc": None},
    }
    assert (refused.status_code, answered.status_code, made.status_code) == (401, 200, 201)
    assert during == answer.json()
    assert during["user"].items() >= {"name": "admin", "tenant": "default"}.items()
    assert during["user"]["scopes"] == ["admin", "read", "write"]
    assert during["user"]["is_signed_in"]
    assert (left.status_code, dict(visitor.cookies), after) == (204, {}, before)
    again = await visitor.get("/v1/labels", headers={"Cookie": f"{COOKIE}={kept[COOKIE]}"})
    assert again.status_code == 401


async def test_the_cookie_is_restricted_to_this_site_and_to_tls_if_used(
    visitor: AsyncClient, url: str
) -> None:
    answer = await sign_in(visitor)
    by_tls = await visitor.post(
        "/v1/session",
        json={"password": PASSWORD},
        headers={"X-Forwarded-Proto": "https", "Origin": url.replace("http", "https")},
    )

    [plain] = SimpleCookie(answer.headers["set-cookie"]).values()
    [private] = SimpleCookie(by_tls.headers["set-cookie"]).values()
    for cookie in (plain, private):
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")
        assert not cookie["domain"]
        assert int(cookie["max-age"]) == 7 * 86_400
    assert (plain.key, plain["secure"]) == (COOKIE, "")
    assert (private.key, private["secure"]) == (f"__Host-{COOKIE}", True)


async def test_only_a_digest_is_stored(visitor: AsyncClient, shared_database_url: str) -> None:
    await sign_in(visitor)

    stored = execute(shared_database_url, "SELECT * FROM sessions")
    cookie = visitor.cookies[COOKIE]

    assert cookie.partition(".")[0] in stored
    assert cookie.partition(".")[2] not in stored
    assert PASSWORD not in execute(shared_database_url, "SELECT * FROM admin_password")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://{host}.evil.example.com"}, 403),
        ({"Origin": "http://{host}@evil.example.com"}, 403),
        ({"Origin": "https://{host}"}, 403),
        ({"Origin": "https://evil.example.com", **OWN_PAGE}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": None}, 403),
        ({"Origin": None, "Referer": "http://{host}/"}, 403),
        ({"Origin": None, **OWN_PAGE}, 201),
        ({"Origin": "http://{host}"}, 201),
    ],
)
async def test_a_page_of_another_origin_changes_nothing_with_the_cookie(
    visitor: AsyncClient, headers: dict[str, str | None], status: int
) -> None:
    await sign_in(visitor)
    host = visitor.base_url.netloc.decode()
    del visitor.headers["origin"]
    said = {
        name: value.replace("{host}", host) for name, value in headers.items() if value is not None
    }

    ticket = await visitor.post("/v1/live/tickets", headers=said)
    signed_in = await visitor.post("/v1/session", json={"password": PASSWORD}, headers=said)
    left = await visitor.delete("/v1/session", headers=said)

    assert (ticket.status_code, signed_in.status_code) == (status, status)
    assert left.status_code == (204 if status == 201 else 403)


async def test_a_key_is_traded_for_a_session_that_ends_with_it(
    visitor: AsyncClient, shared_database_url: str
) -> None:
    key = await a_key(shared_database_url, "read", name="grafana")
    answer = await visitor.post("/v1/session", json={}, headers=bearing(key))
    read = await visitor.get("/v1/labels")
    administrated = await visitor.get("/v1/keys")

    assert (answer.json()["user"]["name"], answer.json()["user"]["scopes"]) == ("grafana", ["read"])
    assert (read.status_code, administrated.status_code) == (200, 403)
    async with Database.open(shared_database_url, write_pool_size=1) as database:
        await revoke_key(database, key.split("_")[1], TESTS)
    await until_refused(visitor)


async def test_nobody_signs_in_with_nothing_or_something_wrong(visitor: AsyncClient) -> None:
    nothing = await visitor.post("/v1/session", json={})
    wrong_key = await visitor.post("/v1/session", json={}, headers=bearing("iw_abcd_" + "x" * 43))
    wrong = await visitor.post("/v1/session", json={"password": PASSWORD[:-1]})
    odd = [
        await visitor.post("/v1/session", content=body, headers={"Content-Type": kind})
        for body, kind in (
            ("{}", "text/plain"),
            ('{"password": 1}', "application/json"),
            ('{"more": 1}', "application/json"),
            ("[]", "application/json"),
            ("{", "application/json"),
        )
    ]

    statuses = [one.status_code for one in (nothing, wrong_key, wrong, *odd)]
    assert statuses == [401, 401, 401, *[422] * 5]
    assert not visitor.cookies
    assert (await sign_in(visitor)).status_code == 201


async def test_an_unknown_cookie_identifies_nobody(visitor: AsyncClient) -> None:
    await sign_in(visitor)
    right = visitor.cookies[COOKIE]
    visitor.cookies.clear()
    for wrong in (
        "",
        "x",
        right[:-1],
        right[:-1] + "!",
        right.replace(".", "-"),
        "0" * 16 + right[16:],
    ):
        answer = await visitor.get("/v1/labels", headers={"Cookie": f"{COOKIE}={wrong}"})
        assert answer.status_code == 401, wrong
        known = await visitor.get("/v1/session", headers={"Cookie": f"{COOKIE}={wrong}"})
        assert known.json()["user"] is None
    private = await visitor.get("/v1/labels", headers={"Cookie": f"__Host-{COOKIE}={right}"})
    assert private.status_code == 401


async def test_guesses_are_slowed_down_even_with_the_right_password(
    shared_database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    async with (
        serving(
            shared_database_url,
            auth="required",
            admin_password_file=file,  # at once; a hash takes as long as another guess is worth
            trusted_proxies="127.0.0.0/8",
        ) as url,
        browser(url) as guesser,
        browser(url) as elsewhere,
    ):
        guesses = 1
        while (
            answer := await guesser.post("/v1/session", json={"password": "a guess"})
        ).status_code == 401:
            guesses += 1
        right = await guesser.post("/v1/session", json={"password": PASSWORD})

        assert guesses > AT_ONCE
        assert (answer.status_code, right.status_code) == (429, 429)
        assert int(right.headers["retry-after"]) > 0
        await sign_in(elsewhere)


async def test_a_new_password_signs_out_on_every_server(shared_database_url: str, url: str) -> None:
    async with (
        serving(shared_database_url, auth="required") as other,
        browser(url) as here,
        browser(other) as there,
    ):
        await sign_in(here)
        there.cookies = here.cookies
        assert (await there.get("/v1/labels")).status_code == 200
        async with Database.open(shared_database_url, write_pool_size=1) as database:
            await set_password(database, PASSWORD, TESTS)
        await until_refused(here)
        await until_refused(there)


async def test_live_views_are_opened_with_a_ticket_and_end_with_the_session(
    visitor: AsyncClient, url: str
) -> None:
    await sign_in(visitor)
    live = f"{url}/v1/live".replace("http", "ws", 1)
    cookie = {"Cookie": f"{COOKIE}={visitor.cookies[COOKIE]}"}
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(live, additional_headers=cookie, proxy=None):
            raise AssertionError("a cookie opens no WebSocket")
    assert refusal.value.response.status_code == 401
    ticket = (await visitor.post("/v1/live/tickets")).json()["ticket"]

    offered = [Subprotocol("infrawatch.v1"), Subprotocol(f"ticket.{ticket}")]
    async with connect(live, subprotocols=offered, proxy=None) as viewer:
        await viewer.send(json.dumps({"type": "subscribe", "id": "a", "match": "up"}))
        assert json.loads(await viewer.recv())["type"] == "subscribed"
        await visitor.delete("/v1/session")
        with suppress(ConnectionClosed):
            async for _ in viewer:
                pass

    assert viewer.close_code == 4401


async def test_operators_list_sessions_and_end_them(
    visitor: AsyncClient, shared_database_url: str
) -> None:
    await sign_in(visitor)
    session_id = visitor.cookies[COOKIE].partition(".")[0]

    listed = infrawatch("sessions", "list", url=shared_database_url)
    ended = infrawatch("sessions", "end", session_id, url=shared_database_url)
    again = infrawatch("sessions", "end", session_id, url=shared_database_url)

    assert re.search(rf"^{session_id} +default +admin +password ", listed.stdout, re.MULTILINE)
    assert (ended.returncode, again.returncode) == (0, 1)
    assert "there is no session" in again.stderr
    await until_refused(visitor)


@pytest.mark.parametrize("setting", ["session_idle", "session_life"])
async def test_a_session_ends_by_itself(shared_database_url: str, setting: str) -> None:
    patience: dict[str, Any] = {setting: "1s"}
    async with (
        serving(shared_database_url, auth="required", **patience) as url,
        browser(url) as client,
    ):
        answer = await sign_in(client)
        assert answer.json()["user"]["until"]
        await until_refused(client)


async def test_while_authentication_is_off_nobody_needs_to_sign_in(
    shared_database_url: str,
) -> None:
    async with serving(shared_database_url) as url, browser(url) as client:
        del client.headers["x-forwarded-for"]
        told = (await client.get("/v1/session")).json()
        refused = await client.post("/v1/session", json={"password": PASSWORD})

    assert (told["authentication"], told["user"]) == ("off", None)
    assert refused.status_code == 403


async def test_signing_in_and_out_is_recorded(visitor: AsyncClient) -> None:
    await sign_in(visitor)
    session_id = visitor.cookies[COOKIE].partition(".")[0]
    trail = (await visitor.get("/v1/audit")).json()["entries"]

    [begun] = [one for one in trail if one["target"] == session_id]
    assert (begun["action"], begun["actor"], begun["detail"]) == (
        "session.created",
        "admin",
        {"way": "password"},
    )


async def test_a_password_in_a_file_counts_instead(
    shared_database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("another one altogether\n")
    async with (
        serving(shared_database_url, auth="required", admin_password_file=file) as url,
        browser(url) as client,
    ):
        await sign_in(client, password="another one altogether")
        wrong = await client.post("/v1/session", json={"password": PASSWORD})
    assert wrong.status_code == 401

    async with Database.open(shared_database_url) as database:
        file.write_text("short")
        for path in (file, tmp_path / "none"):
            with pytest.raises(CannotStart, match=path.name):
                AdminPassword(database, path, WrongKeys(Rates(None), "wrong_passwords"))


async def test_the_command_sets_a_password_and_removes_it(database_url: str) -> None:
    set_it = infrawatch("password", "set", url=database_url, stdin=f"{PASSWORD}\n")
    short = infrawatch("password", "set", url=database_url, stdin="short\n")
    hashed = execute(database_url, "SELECT hash FROM admin_password")
    removed = infrawatch("password", "remove", url=database_url)
    again = infrawatch("password", "remove", url=database_url)

    assert (set_it.returncode, removed.returncode) == (0, 0)
    assert hashed.startswith("$argon2id$")
    assert "12 to 1000 characters" in short.stderr
    assert "no password is set" in again.stderr
    actions = execute(database_url, "SELECT string_agg(action, ' ' ORDER BY id) FROM audit")
    assert actions == "password.set password.removed"
