"""A provider with invalid, huge or slow responses is unavailable, and affects nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from httpx import AsyncClient
from identity_provider import AUDIENCE, CLIENT, Provider, providing
from integration.conftest import serving
from jwt.algorithms import RSAAlgorithm
from keys import bearing
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.asyncio(loop_scope="module")

DISCOVERY = "/.well-known/openid-configuration"
DEADLINE_S = 60
AWAY = ("server_unavailable", "/#/sign-in?problem=away")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_provider() -> AsyncIterator[Provider]:
    async with providing() as provider:
        provider.claims = {"preferred_username": "ada", "groups": ["staff"]}
        yield provider


@pytest_asyncio.fixture(loop_scope="module")
async def provider(shared_provider: Provider) -> AsyncIterator[Provider]:
    yield shared_provider
    shared_provider.instead.clear()


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(shared_database_url: str, provider: Provider) -> AsyncIterator[AsyncClient]:
    """A browser, and a server that has not contacted the provider yet."""
    async with (
        serving(
            shared_database_url,
            auth="required",
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT,
            oidc_client_secret_file=provider.secret_file,
            oidc_audience=AUDIENCE,
            oidc_roles="staff=read",
        ) as url,
        AsyncClient(base_url=url, timeout=DEADLINE_S, headers={"Origin": url}) as client,
    ):
        yield client


def told(content: object) -> ASGIApp:
    return Response(content if isinstance(content, bytes) else json.dumps(content).encode())


def endless(pause_s: float) -> ASGIApp:
    async def spaces() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 10_000
            await asyncio.sleep(pause_s)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(spaces())(scope, receive, send)

    return app


async def sign_in(visitor: AsyncClient) -> str:
    """Where that leads to in the end: a place, or the code of a problem."""
    there = await visitor.get("/v1/session/oidc")
    if there.status_code != 303:
        return str(there.json()["code"])
    back = await visitor.get(there.headers["location"])
    return (await visitor.get(back.headers["location"])).headers["location"]


async def ask(visitor: AsyncClient, provider: Provider) -> Response:
    answer = await visitor.get("/v1/labels", headers=bearing(provider.token()))
    return Response(answer.content, answer.status_code)


DEEP = told(b"[" * 200_000)


@pytest.mark.parametrize(
    ("path", "response"),
    [
        (DISCOVERY, DEEP),
        (DISCOVERY, told([])),
        ("/jwks", told(b"<html>")),
        ("/jwks", told(b"\xff")),
        ("/jwks", endless(0)),
        ("/token", DEEP),
        ("/token", endless(0)),
    ],
)
async def test_invalid_credentials_are_refused_and_break_nothing(
    visitor: AsyncClient, provider: Provider, path: str, response: ASGIApp
) -> None:
    provider.instead[path] = response

    assert await sign_in(visitor) in AWAY
    assert not visitor.cookies.get("infrawatch_session")


@pytest.mark.parametrize("path", ["/jwks", "/token"])
async def test_an_answer_that_drips_has_a_deadline(
    visitor: AsyncClient, provider: Provider, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrawatch.access.login.issuer.DEADLINE_S", 0.5)
    provider.instead[path] = endless(0.05)

    async with asyncio.timeout(DEADLINE_S):
        assert await sign_in(visitor) in AWAY


@pytest.mark.parametrize(
    "where", ["javascript:alert(1)", "http://id.example.com/", "https://a/\r\nSet-Cookie: a=b"]
)
async def test_endpoints_are_behind_tls(
    visitor: AsyncClient, provider: Provider, where: object
) -> None:
    issuer = provider.issuer
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    provider.instead[DISCOVERY] = told({"issuer": issuer, **dict.fromkeys(names, where)})

    assert await sign_in(visitor) == "server_unavailable"


async def test_a_key_that_cannot_be_used_does_not_spoil_the_others(
    visitor: AsyncClient, provider: Provider
) -> None:
    good = json.loads(RSAAlgorithm.to_jwk(provider.keys["one"].public_key()))
    others: list[Any] = [
        *("text", 1, None, [], {}),
        {"kty": "RSA", "kid": "a", "n": 5, "e": "AQAB"},
        {"kty": "RSA", "kid": "b", "n": "AQ", "e": "AQAB"},
        {"kty": "RSA", "kid": "c", **dict.fromkeys(("n", "e"), good["n"]), "alg": ["RS256"]},
        {"kty": "EC", "kid": "d", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "e", "crv": ["P-256"], "x": "AA", "y": "AA"},
        {"kty": "OKP", "kid": "f", "crv": "X25519", "x": "AA"},
        {"kty": "oct", "kid": "one", "k": "AA", "alg": "RS256"},
    ]
    keys = {"keys": [*others, {**good, "kid": "one"}, *others]}
    provider.instead["/jwks"] = JSONResponse(keys)

    assert (await ask(visitor, provider)).status_code == 200


async def test_unverifiable_tokens_are_retryable_and_the_provider_is_not_asked_again(
    visitor: AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def away(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await Response(status_code=500)(scope, receive, send)

    monkeypatch.setattr("infrawatch.access.login.issuer.AWAY_S", 10.0 * DEADLINE_S)
    provider.instead["/jwks"] = away
    answers = [await ask(visitor, provider) for _ in range(3)]
    provider.instead.clear()
    monkeypatch.setattr("infrawatch.access.login.issuer.AWAY_S", 0.0)

    assert [one.status_code for one in answers] == [503, 503, 503]
    assert asked == ["/jwks"]
    assert (await ask(visitor, provider)).status_code == 200
