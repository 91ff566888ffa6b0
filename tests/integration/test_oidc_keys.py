"""The provider's keys: rotated, withdrawn, ambiguous or away; and claims that are no names."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from httpx import AsyncClient
from identity_provider import AUDIENCE, CLIENT, Provider, a_key, providing
from integration.conftest import serving
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from keys import a_tenant, bearing
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEADLINE_S = 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_provider() -> AsyncIterator[Provider]:
    async with providing() as provider:
        provider.claims = {"preferred_username": "ada", "groups": ["staff"], "org": "default"}
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Iterator[Provider]:
    keys = dict(shared_provider.keys)
    yield shared_provider
    shared_provider.instead.clear()
    shared_provider.keys = keys


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str, shared_provider: Provider) -> AsyncIterator[AsyncClient]:
    """Asks a server that fetches the keys whenever they are needed, and remembers no token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infrawatch.access.login.issuer.KEYS_AGAIN_S", 0.0)
        patch.setattr("infrawatch.access.login.issuer.KEYS_GOOD_S", 0.1)
        patch.setattr("infrawatch.access.login.issuer.DEADLINE_S", 0.5)
        patch.setattr("infrawatch.access.login.issuer.AWAY_S", 0.0)
        patch.setattr("infrawatch.access.login.issuer.DISCOVERED_S", 0.0)
        patch.setattr("infrawatch.access.login.tokens.CACHED_S", 0.0)
        patch.setattr("infrawatch.access.keys.wrong_keys.AT_ONCE", 1_000)
        async with (
            serving(
                shared_database_url,
                auth="required",
                oidc_issuer=shared_provider.issuer,
                oidc_client_id=CLIENT,
                oidc_audience=AUDIENCE,
                oidc_algorithms="RS256,PS256,ES256",
                oidc_roles="staff=read,None=admin",
                oidc_tenant_claim="org",
            ) as url,
            AsyncClient(base_url=url, timeout=DEADLINE_S) as client,
        ):
            yield client


async def status(client: AsyncClient, token: str) -> int:
    return (await client.get("/v1/session", headers=bearing(token))).status_code


def published(provider: Provider, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = RSAAlgorithm.to_jwk(provider.keys["one"].public_key(), as_dict=True)
    return found | {"kid": "one"} | more


async def test_a_withdrawn_key_is_forgotten(client: AsyncClient, provider: Provider) -> None:
    token = provider.token()
    assert await status(client, token) == 200

    provider.keys = {"two": a_key()}

    async with asyncio.timeout(DEADLINE_S):
        while await status(client, token) == 200:
            pass
    assert await status(client, token) == 401
    assert await status(client, provider.token(key_id="two")) == 200


@pytest.mark.parametrize("keys", [{"error": "try later"}, {"keys": []}, {"keys": [{"kty": "x"}]}])
async def test_keys_outlast_an_answer_without_any(
    client: AsyncClient, provider: Provider, keys: dict[str, object]
) -> None:
    assert await status(client, provider.token()) == 200
    of_no_key = Provider(issuer=provider.issuer, keys={"two": a_key()}).token(key_id="two")

    provider.instead["/jwks"] = JSONResponse(keys)

    assert await status(client, of_no_key) == 503
    assert await status(client, provider.token()) == 200


async def test_a_key_without_an_algorithm_verifies_all_algorithms_of_its_type(
    client: AsyncClient, provider: Provider
) -> None:
    provider.instead["/jwks"] = JSONResponse({"keys": [published(provider)]})

    assert await status(client, provider.token(algorithm="PS256")) == 200
    assert await status(client, provider.token(algorithm="RS256")) == 200

    provider.instead["/jwks"] = JSONResponse({"keys": [published(provider, alg="PS256")]})

    async with asyncio.timeout(DEADLINE_S):
        while await status(client, provider.token(algorithm="RS256")) == 200:
            pass
    assert await status(client, provider.token(algorithm="PS256")) == 200


async def test_two_keys_with_one_id_are_distinguished_by_type(
    client: AsyncClient, provider: Provider
) -> None:
    other = generate_private_key(SECP256R1())
    curve = ECAlgorithm.to_jwk(other.public_key(), as_dict=True) | {"kid": "one"}
    provider.instead["/jwks"] = JSONResponse({"keys": [published(provider), curve]})
    claims = jwt.decode(provider.token(), options={"verify_signature": False})

    assert await status(client, jwt.encode(claims, other, "ES256", {"kid": "one"})) == 200
    assert await status(client, provider.token()) == 200


@pytest.mark.parametrize("more", [{"key_ops": ["encrypt"]}, {"key_ops": 1}, {"use": "enc"}, {}])
async def test_a_key_that_is_not_for_verifying_is_none(
    client: AsyncClient, provider: Provider, more: dict[str, object]
) -> None:
    private = RSAAlgorithm.to_jwk(provider.keys["one"], as_dict=True)
    odd = {**(published(provider, **more) if more else private), "kid": "odd"}
    provider.instead["/jwks"] = JSONResponse({"keys": [published(provider), odd]})
    provider.keys["odd"] = provider.keys["one"]

    assert await status(client, provider.token(key_id="odd")) == 401
    assert await status(client, provider.token()) == 200


async def test_requests_waiting_for_a_hanging_provider_wait_once(
    client: AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def hang(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        asked.append(scope["path"])
        while (await receive())["type"] != "http.disconnect":
            pass

    monkeypatch.setattr("infrawatch.access.login.issuer.DISCOVERED_S", DEADLINE_S)
    assert await status(client, provider.token()) == 200  # its endpoints are known from now on
    monkeypatch.setattr("infrawatch.access.login.issuer.AWAY_S", 10 * DEADLINE_S)
    provider.instead["/jwks"] = hang
    others = Provider(issuer=provider.issuer, keys={str(number): a_key() for number in range(3)})

    answers = await asyncio.gather(
        *(status(client, others.token(key_id=key_id)) for key_id in others.keys)
    )

    assert answers == [503, 503, 503]
    assert asked == ["/jwks"]
    assert await status(client, provider.token()) == 200


@pytest.mark.parametrize("org", [None, "", "shop\0", "\ud800", ["default"], {"name": "default"}, 1])
async def test_a_tenant_is_a_name_and_nothing_else(
    client: AsyncClient, provider: Provider, org: object, shared_database_url: str
) -> None:
    if org is None:
        await a_tenant(shared_database_url, "None")

    answer = await client.get("/v1/session", headers=bearing(provider.token(org=org)))

    assert answer.status_code == 401
    assert "INFRAWATCH_OIDC_TENANT_CLAIM" in answer.json()["detail"]


async def test_a_missing_role_claim_grants_no_role(client: AsyncClient, provider: Provider) -> None:
    answer = await client.get("/v1/session", headers=bearing(provider.token(groups=None)))

    assert answer.json()["user"]["scopes"] == []


async def test_a_token_that_is_too_long_is_refused_with_what_to_do(
    client: AsyncClient, provider: Provider
) -> None:
    many = [f"a-group-{number}" for number in range(2_000)]
    answer = await client.get("/v1/session", headers=bearing(provider.token(groups=many)))

    assert answer.status_code == 401
    assert "fewer claims" in answer.json()["detail"]


async def test_a_browser_is_led_back_while_the_provider_is_away(
    client: AsyncClient, provider: Provider
) -> None:
    provider.instead["/.well-known/openid-configuration"] = JSONResponse({"issuer": "another"})

    page = await client.get("/v1/session/oidc", headers={"Accept": "text/html,*/*;q=0.8"})
    program = await client.get("/v1/session/oidc")

    assert (page.status_code, page.headers["location"]) == (303, "/#/sign-in?problem=away")
    assert program.status_code == 503
