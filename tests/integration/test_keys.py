"""API keys: who is admitted, in every form of credentials, and how others are rejected."""

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from httpx import AsyncClient, BasicAuth
from integration.conftest import serving
from keys import a_key, bearing
from pushing import now_ms

from infrawatch.access.principal import SCOPES

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORMS: dict[str, Callable[[str], dict[str, Any]]] = {
    "bearer": lambda key: {"headers": {"Authorization": f"Bearer {key}"}},
    "bearer in lower case": lambda key: {"headers": {"authorization": f"bearer {key}"}},
    "x-api-key": lambda key: {"headers": {"X-API-Key": key}},
    "x-api-key beside a proxy's own": lambda key: {
        "headers": {"X-API-Key": key, "Authorization": "Basic cHJveHk6c2VjcmV0"}
    },
    "token": lambda key: {"headers": {"Authorization": f"Token {key}"}},
    "token with a user": lambda key: {"headers": {"Authorization": f"Token telegraf:{key}"}},
    "basic": lambda key: {"auth": BasicAuth("anybody", key)},
    "query": lambda key: {"params": {"u": "telegraf", "p": key}},
}
BATCH = {"series": [{"metric": "up", "labels": {"host": "a"}, "samples": [[0, 1.0]]}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(shared_database_url: str) -> AsyncIterator[AsyncClient]:
    async with (
        serving(shared_database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(shared_database_url: str) -> str:
    return await a_key(shared_database_url, *SCOPES)


async def push(client: AsyncClient, headers: dict[str, str]) -> int:
    BATCH["series"][0]["samples"] = [[now_ms(), 1.0]]
    return (await client.post("/v1/samples", json=BATCH, headers=headers)).status_code


async def test_a_key_is_taken_in_every_form(shared_database_url: str, key: str) -> None:
    line = f"cpu,host=a idle=1 {now_ms()}000000"

    async with (
        serving(shared_database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        for name, form in FORMS.items():
            right = await client.post("/write", content=line, **form(key))
            wrong = await client.post("/write", content=line, **form(f"{key[:-1]}!"))

            assert (right.status_code, wrong.status_code) == (204, 401), name


async def test_no_other_url_contains_a_key(guarded: AsyncClient, key: str) -> None:
    answer = await guarded.get("/v1/labels", params={"u": "any", "p": key})

    assert answer.status_code == 401


async def test_without_a_key_it_is_401_with_it_but_without_the_scope_403(
    guarded: AsyncClient, shared_database_url: str
) -> None:
    reader = bearing(await a_key(shared_database_url, "read"))
    writer = bearing(await a_key(shared_database_url, "write"))

    statuses = {
        (name, path): (await guarded.get(path, headers=headers)).status_code
        for name, headers in {"none": {}, "reader": reader, "writer": writer}.items()
        for path in ("/v1/labels", "/v1/keys", "/metrics", "/livez")
    }

    assert statuses == {
        ("none", "/v1/labels"): 401,
        ("none", "/v1/keys"): 401,
        ("none", "/metrics"): 401,
        ("none", "/livez"): 200,
        ("reader", "/v1/labels"): 200,
        ("reader", "/v1/keys"): 403,
        ("reader", "/metrics"): 200,
        ("reader", "/livez"): 200,
        ("writer", "/v1/labels"): 403,
        ("writer", "/v1/keys"): 403,
        ("writer", "/metrics"): 403,
        ("writer", "/livez"): 200,
    }
    assert await push(guarded, reader) == 403
    assert await push(guarded, writer) == 200


async def test_a_refusal_explains_how_to_get_access(guarded: AsyncClient) -> None:
    answer = await guarded.get("/v1/labels", params={"match": "{{{"})

    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthenticated"
    assert "infrawatch keys create" in answer.json()["detail"]


async def test_a_malformed_key_is_refused(shared_database_url: str) -> None:
    async with (
        serving(shared_database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        for said in ("", "Bearer", "Basic !", "Digest x", "iw_a_b", "Bearer a.jwt.token"):
            answer = await client.get("/v1/labels", headers={"Authorization": said})

            assert answer.status_code == 401, said


async def test_every_protocol_refuses_in_its_own_format(guarded: AsyncClient) -> None:
    otlp = await guarded.post("/v1/metrics", json={})
    v1, v2, v3 = [
        await guarded.post(path, content="a b=1")
        for path in ("/write", "/api/v2/write", "/api/v3/write_lp")
    ]
    remote_write = await guarded.post("/api/v1/write", content=b"")

    assert [one.status_code for one in (otlp, v1, v2, v3, remote_write)] == [401] * 5
    assert all("www-authenticate" in one.headers for one in (otlp, v1, v2, v3, remote_write))
    assert otlp.json()["code"] == 16
    assert "key" in v1.json()["error"]
    assert v2.json()["code"] == "unauthorized"
    assert "key" in v3.json()["error"]
    assert remote_write.headers["content-type"].startswith("text/plain")


async def test_administrators_create_keys_valid_at_once_and_revoke_them(
    guarded: AsyncClient, key: str
) -> None:
    admin = bearing(key)
    wish = {"name": "agent of web-1", "scopes": ["write"], "expires_in": "90d"}

    made = await guarded.post("/v1/keys", json=wish, headers=admin)
    theirs = bearing(made.json()["key"])
    is_good = await push(guarded, theirs)
    [listed] = [
        one
        for one in (await guarded.get("/v1/keys", headers=admin)).json()["keys"]
        if one["id"] == made.json()["id"]
    ]
    revoked = await guarded.delete(f"/v1/keys/{listed['id']}", headers=admin)
    again = await guarded.delete(f"/v1/keys/{listed['id']}", headers=admin)

    assert (made.status_code, is_good) == (201, 200)
    assert made.json()["key"].startswith(f"iw_{listed['id']}_")
    assert (listed["name"], listed["scopes"]) == (wish["name"], ["write"])
    assert made.json()["key"] not in str(listed)
    assert (revoked.status_code, again.status_code) == (204, 204)
    while (answer := await push(guarded, theirs)) != 401:  # within two seconds
        assert answer == 200


async def test_an_unknown_key_cannot_be_revoked(guarded: AsyncClient, key: str) -> None:
    assert (await guarded.delete("/v1/keys/abcdef", headers=bearing(key))).status_code == 404


async def test_an_invalid_request_for_a_key_is_refused(guarded: AsyncClient, key: str) -> None:
    wishes: list[dict[str, Any]] = [
        {},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["root"]},
        {"name": "a\u0000", "scopes": ["read"]},
        {"name": "a", "scopes": ["read"], "expires_in": "soon"},
        {"name": "a", "scopes": ["read"], "more": 1},
    ]
    for wish in wishes:
        answer = await guarded.post("/v1/keys", json=wish, headers=bearing(key))
        assert answer.status_code == 422, wish

    long = await guarded.post("/v1/keys", content=b" " * 20_000, headers=bearing(key))
    assert long.status_code == 413
    assert long.headers["content-type"] == "application/problem+json"
    assert long.json()["code"] == "body_too_large"


async def test_an_expired_key_is_refused_with_that_reason(guarded: AsyncClient, key: str) -> None:
    wish = {"name": "short", "scopes": ["read"], "expires_in": "1ms"}
    made = await guarded.post("/v1/keys", json=wish, headers=bearing(key))

    answer = await guarded.get("/v1/labels", headers=bearing(made.json()["key"]))

    assert answer.status_code == 401
    assert "has expired" in answer.json()["detail"]


async def test_basic_without_a_colon_is_no_key(guarded: AsyncClient, key: str) -> None:
    headers = {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}

    assert (await guarded.get("/v1/labels", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/samples", "precision=ms"),
        ("/api/v1/write", "of=nobody"),
        ("/write", "precision=ns"),
        ("/v1/metrics", "of=nobody"),
    ],
)
async def test_senders_need_the_same_key_with_a_query_and_without(
    guarded: AsyncClient, shared_database_url: str, path: str, query: str
) -> None:
    reader = await a_key(shared_database_url, "read")

    for asked in (path, f"{path}?{query}"):
        nobody = await guarded.post(asked, content=b"")
        no_writer = await guarded.post(asked, content=b"", headers=bearing(reader))
        assert (nobody.status_code, no_writer.status_code) == (401, 403), asked
