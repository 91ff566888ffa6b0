"""While authentication is off, only this machine may ask, on every route."""

import pytest
from httpx import AsyncClient
from integration.conftest import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = [
    ("POST", "/v1/samples"),
    ("GET", "/v1/series?match=up"),
    ("GET", "/livez"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/nowhere"),
    ("OPTIONS", "/v1/samples"),
]
FOREIGN = [
    {"host": "example.org"},
    {"host": "127.0.0.1.example.org"},
    {"host": "localhost.example.org:8000"},
    {"host": "192.168.1.5:8000"},
    {"host": "0.0.0.0"},
    {"host": ""},
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-host": "localhost"},
    {"x-forwarded-proto": "https"},
    {"forwarded": "for=127.0.0.1"},
    {"origin": "https://example.org"},
    {"origin": "http://localhost.example.org"},
    {"origin": "null"},
    {"origin": ""},
]
OURS = [
    {},
    {"host": "localhost"},
    {"host": "LOCALHOST:8000"},
    {"host": "127.0.0.1"},
    {"host": "127.3.2.1:1"},
    {"host": "[::1]:8000"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://[::1]"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_requests_from_other_machines_are_forbidden_with_a_reason(
    shared_client: AsyncClient, headers: dict[str, str]
) -> None:
    for method, path in ROUTES:
        answer = await shared_client.request(method, path, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert "INFRAWATCH_AUTH" in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("headers", OURS, ids=str)
async def test_requests_from_this_machine_are_answered(
    shared_client: AsyncClient, headers: dict[str, str]
) -> None:
    assert (await shared_client.get("/livez", headers=headers)).status_code == 200


async def test_an_explicitly_open_server_is_open(shared_database_url: str) -> None:
    async with (
        serving(shared_database_url, auth="off-and-i-know-it-is-open") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        for headers in FOREIGN:
            assert (await client.get("/livez", headers=headers)).status_code == 200
