"""INFRAWATCH_PUBLIC_URL: what the server is called counts, not what a request says."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from httpx import AsyncClient
from identity_provider import CLIENT, Provider, providing
from integration.conftest import serving
from keys import a_key, bearing
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from infrawatch.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = "https://metrics.example.com"
COOKIE = "__Host-infrawatch_session"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with providing() as provider:
        provider.claims = {"preferred_username": "ada"}
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_database_url: str, provider: Provider) -> AsyncIterator[str]:
    """A server behind a proxy that says neither `Host` nor `X-Forwarded-Proto`."""
    async with serving(
        shared_database_url,
        auth="required",
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret_file=provider.secret_file,
        oidc_roles="*=read",
        public_url=f"{PUBLIC}/",
    ) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(url: str) -> AsyncIterator[AsyncClient]:
    """A browser on a page of the public address."""
    async with AsyncClient(base_url=url, timeout=30, headers={"Origin": PUBLIC}) as client:
        yield client


@pytest.mark.parametrize("host", ["metrics.example.com", "evil.example.com", "127.0.0.1:1"])
async def test_the_provider_sends_people_back_to_the_public_address(
    visitor: AsyncClient, host: str
) -> None:
    there = await visitor.get("/v1/session/oidc", headers={"Host": host})
    asked = parse_qs(urlsplit(there.headers["location"]).query)
    back = await visitor.get(there.headers["location"])
    [secrets] = SimpleCookie(there.headers["set-cookie"]).values()
    callback = urlsplit(back.headers["location"])
    done = await visitor.get(
        f"{callback.path}?{callback.query}",
        headers={"Host": host, "Cookie": f"{secrets.key}={secrets.value}"},
    )

    assert asked["redirect_uri"] == [f"{PUBLIC}/v1/session/oidc/callback"]
    assert f"{callback.scheme}://{callback.netloc}" == PUBLIC
    assert done.headers["location"] == "/"
    assert COOKIE in done.headers["set-cookie"]


async def test_cookies_are_secure_and_pages_of_the_public_address_are_ours(
    visitor: AsyncClient, shared_database_url: str
) -> None:
    key = bearing(await a_key(shared_database_url, "read"))
    answer = await visitor.post("/v1/session", json={}, headers=key)
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    signed_in = {"Cookie": f"{COOKIE}={cookie.value}"}
    foreign = {"Origin": "https://evil.example.com"}
    refused = await visitor.delete("/v1/session", headers=signed_in | foreign)
    ticket = await visitor.post("/v1/live/tickets", headers=signed_in)

    assert (cookie.key, cookie["secure"], cookie["path"]) == (COOKIE, True, "/")
    assert (refused.status_code, ticket.status_code) == (403, 201)


@pytest.mark.parametrize(
    ("origin", "status"),
    [(PUBLIC, 101), ("http://metrics.example.com", 403), (f"{PUBLIC}:8443", 403)],
)
async def test_pages_of_the_public_address_may_open_websockets(
    url: str, shared_database_url: str, origin: str, status: int
) -> None:
    key = bearing(await a_key(shared_database_url, "read"))
    live = f"{url}/v1/live".replace("http", "ws", 1)
    try:
        async with connect(live, origin=Origin(origin), additional_headers=key, proxy=None):
            answered = 101
    except InvalidStatus as error:
        answered = error.response.status_code

    assert answered == status


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://Metrics.Example.com:443/", "https://metrics.example.com"),
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
async def test_it_is_kept_as_browsers_send_it(given: str, expected: str) -> None:
    assert Settings(_env_file=None, public_url=given).public_url == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "metrics.example.com",
        "ftp://metrics.example.com",
        f"{PUBLIC}/infrawatch",
        f"{PUBLIC}/?a=b",
        f"{PUBLIC}/#a",
        "https://user@metrics.example.com",
        "*",
        "",
    ],
)
async def test_what_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, public_url=wrong)
