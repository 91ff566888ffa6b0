"""Security headers: no framing, no sniffing, no caching, no access by other origins."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from httpx import AsyncClient
from integration.conftest import serving
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

pytestmark = pytest.mark.asyncio(loop_scope="module")

KNOWN, UNKNOWN = "https://grafana.example.com", "https://evil.example.com"
IS_OPEN = "off-and-i-know-it-is-open"
EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str) -> AsyncIterator[AsyncClient]:
    """Of a server behind a proxy on this machine, with one page that is known."""
    async with (
        serving(
            shared_database_url,
            auth=IS_OPEN,
            trusted_proxies="127.0.0.0/8",
            cors_origins=KNOWN,
        ) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/livez"),
        ("GET", "/metrics"),
        ("GET", "/v1/series?match=up"),
        ("GET", "/v1/series?match={"),
        ("POST", "/v1/samples"),
        ("PUT", "/v1/samples"),
        ("GET", "/nowhere"),
        ("POST", "/write"),
        ("GET", "/docs"),
        ("GET", "/redoc"),
        ("GET", "/"),
    ],
)
async def test_every_answer_has_the_headers_once(
    client: AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path)

    for name, value in EVERYWHERE.items():
        assert answer.headers.get_list(name) == [value], name
    [policy] = answer.headers.get_list("content-security-policy")
    assert "frame-ancestors 'none'" in policy
    assert "strict-transport-security" not in answer.headers
    if path.startswith("/v1"):
        assert policy == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"


async def test_an_error_of_ours_has_them_too(shared_database_url: str) -> None:
    async with serving(shared_database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        refused = await client.get("/livez", headers={"host": "example.org"})

    assert refused.status_code == 403
    assert EVERYWHERE.items() <= dict(refused.headers).items()


async def test_hsts_is_sent_behind_tls_only(client: AsyncClient, shared_server: str) -> None:
    by_tls = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7"}

    believed = await client.get("/livez", headers=by_tls)
    async with AsyncClient(base_url=shared_server, timeout=30) as spoofing:
        spoofed = await spoofing.get("/livez", headers=by_tls)

    assert believed.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in spoofed.headers


async def test_only_a_trusted_proxy_determines_the_address_of_a_request(
    shared_database_url: str,
) -> None:
    async with (
        serving(shared_database_url, auth=IS_OPEN, trusted_proxies="192.0.2.0/24") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        spoofed = await client.get("/livez", headers={"x-forwarded-proto": "https"})

    assert spoofed.status_code == 200
    assert "strict-transport-security" not in spoofed.headers


async def test_a_known_page_may_ask_and_others_may_not(client: AsyncClient) -> None:
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }

    known = await client.options("/v1/samples", headers={"origin": KNOWN, **asking})
    unknown = await client.options("/v1/samples", headers={"origin": UNKNOWN, **asking})
    read = await client.get("/v1/series?match=up", headers={"origin": KNOWN})
    not_read = await client.get("/v1/series?match=up", headers={"origin": UNKNOWN})

    assert known.headers["access-control-allow-origin"] == KNOWN
    assert "x-api-key" in known.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in known.headers
    assert read.headers["access-control-allow-origin"] == KNOWN
    assert "retry-after" in read.headers["access-control-expose-headers"].lower()
    assert unknown.status_code == 400
    assert "access-control-allow-origin" not in unknown.headers
    assert "access-control-allow-origin" not in not_read.headers


async def test_by_default_no_page_may_ask(shared_client: AsyncClient) -> None:
    answer = await shared_client.get("/livez", headers={"origin": "http://localhost:3000"})

    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        (None, True),
        (KNOWN, True),
        ("http://{host}", True),
        ("https://{host}", True),
        (UNKNOWN, False),
        ("null", False),
        ("http://127.0.0.1", False),
        ("http://{host}.evil.example.com", False),
        ("http://evil.example.com/{host}", False),
        ("http://{host}@evil.example.com", False),
        ("file://", False),
        ("http://[::1", False),
    ],
)
async def test_a_page_of_another_origin_opens_no_websocket(
    client: AsyncClient, origin: str | None, *, is_let_in: bool
) -> None:
    host = urlsplit(str(client.base_url)).netloc
    page = None if origin is None else Origin(origin.replace("{host}", host))

    assert await opens_websocket(str(client.base_url), page) == is_let_in


@pytest.mark.parametrize("origin", [UNKNOWN, KNOWN, "null", "https://localhost.evil.example.com"])
async def test_nor_where_authentication_is_off(shared_server: str, origin: str) -> None:
    assert not await opens_websocket(shared_server, Origin(origin))
    assert await opens_websocket(shared_server, Origin("http://localhost:3000"))


async def opens_websocket(url: str, origin: Origin | None) -> bool:
    url = f"{url.rstrip('/')}/v1/live".replace("http", "ws", 1)
    try:
        async with connect(url, origin=origin, proxy=None):
            return True
    except InvalidStatus as refusal:
        answer = refusal.response
    assert answer.status_code == 403
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"forbidden" in (answer.body or b"")
    return False
