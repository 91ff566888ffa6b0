"""Who is refused: on every route, how often, how it is counted, and what it costs others."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from database_proxy import Road, proxied
from fastapi.routing import iter_route_contexts
from httpx import AsyncClient
from integration.conftest import serving
from keys import TESTS, a_key, bearing
from pushing import push, series
from structlog.testing import capture_logs
from viewing import until

from infrawatch.access.keys import wrong_keys
from infrawatch.access.keys.credentials import ApiKey
from infrawatch.access.login.passwords import set_password
from infrawatch.access.principal import SCOPES
from infrawatch.app import create_app
from infrawatch.embedded.valkey import valkey_running
from infrawatch.settings import Settings
from infrawatch.store.database import Database

OPEN = {"/livez", "/readyz", "/ping", "/health", "/asyncapi.json"}
PAGES = {"/", "/docs", "/redoc", "/docs/live", "/openapi.json"}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[AsyncClient]:
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


async def test_every_route_needs_a_key_but_those_that_are_open(client: AsyncClient) -> None:
    """And the document says of each what it needs, and how it refuses."""
    document = (await client.get("/openapi.json")).json()
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]

    for method, path, operation in operations:
        if path.startswith("/v1/session"):  # whoever signs in is nobody yet
            assert operation["security"] == [], path
            continue
        answer = await client.request(method, re.sub(r"\{\w+\}", "abcdef", path))
        if path in OPEN:
            assert (answer.is_success, operation["security"]) == (True, []), path
            continue
        assert answer.status_code == 401, path
        assert {"bearer", "api_key", "basic", "token"} == {
            name for way in operation["security"] for name in way
        }
        assert {"401", "403", "429"} <= operation["responses"].keys(), path
        told = operation["responses"]["401"]["content"]
        assert answer.headers["content-type"].partition(";")[0] in told, path
    assert {path for _, path, _ in operations} >= OPEN
    for path in PAGES:
        assert (await client.get(path)).status_code in (200, 404), "404 if it is not built"


def test_routes_outside_the_document_are_pages_or_need_a_key() -> None:
    app = create_app(Settings(_env_file=None))
    paths = {str(one.path).replace(":path}", "}") for one in iter_route_contexts(app.routes)}
    hidden = paths - app.openapi()["paths"].keys()

    assert hidden - PAGES == {"/v1/live", "/assets", "/static/docs"}


async def test_wrong_keys_are_slowed_down_but_never_a_valid_one(
    client: AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong_keys, "ONE_MORE_S", 600.0)  # not one more while this test runs
    right = await a_key(database_url, *SCOPES)

    async def ask(key: str) -> int:
        return (await client.get("/v1/labels", headers=bearing(key))).status_code

    wrong = [await ask(ApiKey.generate().text) for _ in range(20)]
    wrong += [await ask(f"{right[:-1]}{'a' if right[-1] != 'a' else 'b'}") for _ in range(5)]
    fresh = await a_key(database_url, "read")
    together = await asyncio.gather(*map(ask, [ApiKey.generate().text, right] * 50))

    assert wrong[0] == 401
    assert set(wrong[:10]) == {401}
    assert wrong[-1] == 429
    assert set(together[1::2]) == {200}
    assert await ask(fresh) == 200, "the key was not known when the address was delayed"
    answer = await client.get("/v1/labels", headers=bearing(ApiKey.generate().text))
    assert answer.json()["code"] == "too_many_wrong_keys"
    assert 1 <= int(answer.headers["retry-after"]) <= 600
    assert (await client.get("/v1/labels")).status_code == 401, (
        "a missing key does not count as a wrong one"
    )


@pytest.mark.parametrize(
    ("made_up", "site"),
    [("2001:db8::{:x}", "2001:db8::/64"), ("no-address-{}", "127.0.0.1"), ("", "127.0.0.1")],
)
async def test_many_or_forged_addresses_of_a_sender_are_counted_and_logged_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch, made_up: str, site: str
) -> None:
    monkeypatch.setattr(wrong_keys, "ONE_MORE_S", 600.0)
    wrong = bearing(ApiKey.generate().text)
    async with (
        serving(database_url, auth="required", trusted_proxies="127.0.0.0/8") as url,
        AsyncClient(base_url=url, timeout=30, headers=wrong) as client,
    ):
        with capture_logs() as lines:
            answers = [
                await client.get("/v1/labels", headers={"X-Forwarded-For": made_up.format(n)})
                for n in range(20)
            ]
            elsewhere = {"X-Forwarded-For": "2001:db8:0:1::1"}
            other = await client.get("/v1/labels", headers=elsewhere)

    assert [one.status_code for one in answers] == 10 * [401] + 10 * [429]
    assert other.status_code == 401
    refused = [one for one in lines if one["event"] == "request_refused"]
    assert [(one["reason"], one["address"]) for one in refused] == [
        ("wrong_key", site),
        ("too_many_wrong_keys", site),
        ("wrong_key", "2001:db8:0:1::/64"),
    ]
    told = [one["proxy"] for one in lines if one["event"] == "forwarded_for_no_address"]
    assert told == (["127.0.0.1"] if made_up.startswith("no") else [])


async def test_all_servers_together_check_twenty_wrong_keys_of_an_address(
    database: Database, database_url: str, temporary_root: Path
) -> None:
    right = await a_key(database_url, "read")
    await set_password(database, "correct horse battery", TESTS)

    async with (
        valkey_running(temporary_root / "refusals-redis") as redis_url,
        AsyncExitStack() as stack,
    ):
        given = {"auth": "required", "redis_url": redis_url}
        urls = [await stack.enter_async_context(serving(database_url, **given)) for _ in "ab"]
        clients = [AsyncClient(base_url=url, timeout=30, headers={"Origin": url}) for url in urls]
        statuses = []
        for client in [await stack.enter_async_context(client) for client in clients] * 11:
            wrong, guess = bearing(ApiKey.generate().text), {"password": "wrong horse battery"}
            statuses.append((await client.get("/v1/labels", headers=wrong)).status_code)
            statuses.append((await client.post("/v1/session", json=guess)).status_code)
            let_in = await client.get("/v1/labels", headers=bearing(right))
            assert let_in.status_code == 200, "a valid key is never delayed"

    assert set(statuses) == {401, 429}
    # Each by itself, they would look at 40; a slow machine has time for one more now and then.
    assert 20 <= statuses.count(401) < 35


async def test_refusals_are_counted_by_reason_and_logged_once(
    client: AsyncClient, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = await a_key(database_url, "read", name="reader")
    wrong = ApiKey.generate().text
    for _ in range(3):
        await client.get("/v1/labels")
        await client.get("/v1/labels", headers=bearing(wrong))
        await client.get("/v1/keys", headers=bearing(reader))
    await client.post("/write", params={"u": "any", "p": wrong}, content="a b=1")

    metrics = (await client.get("/metrics", headers=bearing(reader))).text
    logged = capfd.readouterr()
    lines = [line for line in logged.out.splitlines() if "request_refused" in line]

    for reason, times in {"no_key": 3, "wrong_key": 4, "scope_missing": 3}.items():
        assert f'infrawatch_requests_refused_total{{reason="{reason}"}} {times}.0' in metrics
        assert sum(f"reason={reason}" in line for line in lines) == 1
    assert wrong not in logged.out + logged.err
    assert "127.0.0.1" in lines[0]


async def test_the_audit_trail_records_who_did_what(client: AsyncClient, database_url: str) -> None:
    admin = bearing(await a_key(database_url, "admin", name="boss"))
    wish = {"name": "web-1", "scopes": ["write"]}
    made = (await client.post("/v1/keys", json=wish, headers=admin)).json()
    await client.delete(f"/v1/keys/{made['id']}", headers=admin)

    first = (await client.get("/v1/audit", params={"limit": 2}, headers=admin)).json()
    before = {"before": first["next_before"]}
    rest = (await client.get("/v1/audit", params=before, headers=admin)).json()

    told: list[dict[str, Any]] = [*first["entries"], *rest["entries"]]
    assert [(one["actor"], one["action"], one["detail"]["name"]) for one in told] == [
        ("boss", "key.revoked", "web-1"),
        ("boss", "key.created", "web-1"),
        ("tests", "key.created", "boss"),
    ]
    assert told[0]["target"] == told[1]["target"] == made["id"]
    assert made["key"] not in str(told)
    assert rest["next_before"] is None


async def test_during_an_outage_of_postgresql_keys_stay_valid_and_errors_retryable(
    database_url: str,
) -> None:
    key = bearing(await a_key(database_url, *SCOPES))
    unknown = bearing(ApiKey.generate().text)
    async with (
        proxied(database_url) as proxy,
        serving(proxy.url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        assert (await push(client, series("up"))).status_code == 401
        client.headers.update(key)
        assert (await push(client, series("up"))).status_code == 200
        proxy.close()
        pushed = await push(client, series("up"))
        metrics = await client.get("/metrics")
        nobody = await client.get("/v1/labels", headers=unknown)
        assert (pushed.status_code, metrics.status_code) == (503, 200)
        assert (nobody.status_code, "retry-after" in nobody.headers) == (503, True)
        proxy.road = Road.OPEN

        async def is_back() -> bool:
            return (await push(client, series("up"))).status_code == 200

        await until(is_back)
