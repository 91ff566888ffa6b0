"""OpenID Connect: people sign in at a provider, programs bring its tokens, and forgeries fail."""

import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import pytest_asyncio
from httpx import AsyncClient, Response
from identity_provider import AUDIENCE, CLIENT, Provider, a_key, now_s, providing
from integration.conftest import serving
from keys import a_tenant, bearing
from pydantic import ValidationError

from infrawatch.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

STAFF = {"preferred_username": "ada", "realm_access": {"roles": ["staff", "other"]}}
Forge = Callable[[Provider], str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_provider() -> AsyncIterator[Provider]:
    async with providing() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    shared_provider.claims = dict(STAFF)
    return shared_provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(shared_database_url: str) -> str:
    """A tenant besides the default one."""
    await a_tenant(shared_database_url, "shop")
    return "shop"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_database_url: str, shared_provider: Provider) -> AsyncIterator[str]:
    async with serving(
        shared_database_url,
        auth="required",
        oidc_issuer=shared_provider.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret_file=shared_provider.secret_file,
        oidc_audience=AUDIENCE,
        oidc_name="Example",
        oidc_role_claim="realm_access.roles",
        oidc_roles="staff=read,ops=read+write+admin",
        trusted_proxies="127.0.0.0/8",
    ) as address:
        yield address


_addresses = iter(range(1, 250))


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(url: str) -> AsyncIterator[AsyncClient]:
    """A browser at an address of its own, which keeps cookies and follows no redirect by itself."""
    address = f"192.0.2.{next(_addresses)}"
    async with AsyncClient(
        base_url=url, timeout=30, headers={"X-Forwarded-For": address, "Origin": url}
    ) as client:
        yield client


async def go(client: AsyncClient) -> str:
    """To the provider; gives where that leads back to."""
    there = await client.get("/v1/session/oidc")
    assert there.status_code == 303, there.text
    back = await client.get(there.headers["location"])
    return back.headers["location"]


async def ask(client: AsyncClient, token: str) -> Response:
    return await client.get("/v1/labels", headers=bearing(token))


@pytest.mark.usefixtures("provider")
async def test_a_user_signs_in_at_the_provider(visitor: AsyncClient) -> None:
    assert (await visitor.get("/v1/session")).json()["ways"]["oidc"] == "Example"

    back = await visitor.get(await go(visitor))
    user = (await visitor.get("/v1/session")).json()["user"]

    assert (back.status_code, back.headers["location"]) == (303, "/")
    assert (user["name"], user["tenant"], user["scopes"]) == ("ada", "default", ["read"])
    assert (await visitor.get("/v1/labels")).status_code == 200
    assert list(visitor.cookies) == ["infrawatch_session"]


@pytest.mark.usefixtures("provider")
async def test_signing_in_again_ends_the_session_before(visitor: AsyncClient) -> None:
    await visitor.get(await go(visitor))
    before = visitor.cookies["infrawatch_session"]
    await visitor.get(await go(visitor))
    after = visitor.cookies["infrawatch_session"]
    visitor.cookies.clear()
    told = [
        await visitor.get("/v1/labels", headers={"Cookie": f"infrawatch_session={cookie}"})
        for cookie in (before, after)
    ]

    assert [one.status_code for one in told] == [401, 200]


@pytest.mark.usefixtures("provider")
async def test_the_way_to_the_provider_is_bound_to_the_browser(visitor: AsyncClient) -> None:
    there = urlsplit((await visitor.get("/v1/session/oidc")).headers["location"])
    asked = {name: value[0] for name, value in parse_qs(there.query).items()}
    callback = await go(visitor)
    other_state = callback.replace("state=", "state=x")

    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == f"{visitor.base_url}".rstrip("/") + "/v1/session/oidc/callback"
    tampered = await visitor.get(other_state)
    assert tampered.headers["location"] == "/#/sign-in?problem=expired"
    visitor.cookies.clear()
    elsewhere = await visitor.get(callback)
    assert elsewhere.headers["location"] == "/#/sign-in?problem=expired"
    assert not visitor.cookies


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"realm_access": {"roles": ["nobody"]}}, "no_role"),
        ({"realm_access": None}, "no_role"),
        ({"nonce": "of another sign-in"}, "refused"),
        ({"aud": "another client"}, "refused"),
        ({"azp": "another client"}, "refused"),
        ({"exp": 1}, "refused"),
        ({"iss": "https://evil.example.com"}, "refused"),
    ],
)
async def test_a_user_unknown_to_the_provider_is_not_admitted(
    visitor: AsyncClient, provider: Provider, claims: dict[str, Any], problem: str
) -> None:
    provider.claims |= claims

    back = await visitor.get(await go(visitor))

    assert back.headers["location"] == f"/#/sign-in?problem={problem}"
    assert not visitor.cookies


@pytest.mark.usefixtures("provider")
async def test_a_code_is_valid_once_and_a_response_of_another_issuer_is_not(
    visitor: AsyncClient,
) -> None:
    callback = await go(visitor)
    kept = dict(visitor.cookies)
    mixed = callback.replace("iss=http", "iss=https")
    denied = callback.replace("code=", "error=access_denied&x=")
    told = []
    for way in (mixed, denied, callback, callback):
        cookies = "; ".join(f"{name}={value}" for name, value in kept.items())
        visitor.cookies.clear()
        answer = await visitor.get(way, headers={"Cookie": cookies})
        told.append(answer.headers["location"])

    assert told == [
        "/#/sign-in?problem=refused",
        "/#/sign-in?problem=refused",
        "/",
        "/#/sign-in?problem=refused",
    ]


async def test_programs_authenticate_with_tokens(visitor: AsyncClient, provider: Provider) -> None:
    staff = await ask(visitor, provider.token())
    nobody = await ask(visitor, provider.token(realm_access={"roles": []}))
    ops = await visitor.get(
        "/v1/session", headers=bearing(provider.token(realm_access={"roles": ["ops"]}))
    )

    assert (staff.status_code, nobody.status_code) == (200, 403)
    assert ops.json()["user"]["scopes"] == ["admin", "read", "write"]
    assert not ops.json()["user"]["is_signed_in"]


def _unsigned(provider: Provider) -> str:
    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    return jwt.encode(claims, "", "none", {"kid": "one"})


def _signed_with_the_public_key(provider: Provider) -> str:
    head = {"alg": "HS256", "typ": "JWT", "kid": "one"}
    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    parts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (head, claims)
    ]
    # PyJWT itself refuses to take a public key for this, so it is done by hand.
    digest = hmac.digest(provider.public_pem(), b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(digest).rstrip(b"=")]).decode()


def _signed_by_another(provider: Provider) -> str:
    other = Provider(issuer=provider.issuer, keys={"one": a_key()}, claims=provider.claims)
    return other.token()


def _of_a_key_nobody_has(provider: Provider) -> str:
    other = Provider(issuer=provider.issuer, keys={"two": a_key()}, claims=provider.claims)
    return other.token(key_id="two")


def _tampered(provider: Provider) -> str:
    head, _, signature = provider.token().split(".")
    changed = jwt.decode(provider.token(), options={"verify_signature": False})
    changed["realm_access"] = {"roles": ["ops"]}
    claims = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
    return f"{head}.{claims}.{signature}"


def _deep() -> str:
    return base64.urlsafe_b64encode(b'{"a":' + 9_000 * b"[").rstrip(b"=").decode()


FORGERIES: dict[str, Forge] = {
    "no signature": _unsigned,
    "a stripped signature": lambda one: one.token().rpartition(".")[0] + ".",
    "HS256 with the public key": _signed_with_the_public_key,
    "an algorithm that is not pinned": lambda one: one.token(algorithm="RS512"),
    "another's key under our id": _signed_by_another,
    "a key that nobody has": _of_a_key_nobody_has,
    "tampered claims": _tampered,
    "another audience": lambda one: one.token(aud="https://other.example.com"),
    "an ID token": lambda one: one.token(aud=CLIENT),
    "no audience": lambda one: one.token(aud=None),
    "another issuer": lambda one: one.token(iss="https://evil.example.com"),
    "nearly our issuer": lambda one: one.token(iss=f"{one.issuer}/"),
    "no issuer": lambda one: one.token(iss=None),
    "expired": lambda one: one.token(exp=now_s() - 60),
    "never expires": lambda one: one.token(exp=None),
    "not yet valid": lambda one: one.token(nbf=now_s() + 120),
    "of the future": lambda one: one.token(iat=now_s() + 120),
    "no subject": lambda one: one.token(sub=None),
    "no date": lambda one: one.token(iat=None),
    "expires in 31 million years": lambda one: one.token(exp=10**15),
    "a header that goes too deep": lambda _: f"{_deep()}.e30.AA",
    "nonsense": lambda _: "eyJ.e30.AA",
}


@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_token_that_is_not_right_is_refused(
    visitor: AsyncClient, provider: Provider, kind: str
) -> None:
    answer = await ask(visitor, FORGERIES[kind](provider))

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_keys_are_asked_for_again_when_one_is_new_but_once_a_minute_at_most(
    visitor: AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ask(visitor, provider.token())).status_code == 200
    asked = provider.asked_for_keys
    for _ in range(5):
        assert (await ask(visitor, _of_a_key_nobody_has(provider))).status_code == 401
    assert provider.asked_for_keys <= asked + 1

    monkeypatch.setattr("infrawatch.access.login.issuer.KEYS_AGAIN_S", 0.0)
    provider.keys["new"] = a_key()
    assert (await ask(visitor, provider.token(key_id="new"))).status_code == 200


async def test_a_verified_token_is_valid_until_it_expires(
    visitor: AsyncClient, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrawatch.access.login.tokens.LEEWAY", timedelta(0))
    token = provider.token(exp=now_s() + 3)
    assert (await ask(visitor, token)).status_code == 200

    while (answer := await ask(visitor, token)).status_code != 401:
        assert answer.status_code == 200
    assert "expired" in answer.json()["detail"]


async def test_tenants_come_from_a_claim(
    shared_database_url: str, provider: Provider, shop: str
) -> None:
    async with (
        serving(
            shared_database_url,
            auth="required",
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT,
            oidc_audience=AUDIENCE,
            oidc_roles="*=read",
            oidc_tenant_claim="org",
        ) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        known = await client.get("/v1/session", headers=bearing(provider.token(org=shop)))
        nowhere = await ask(client, provider.token(org="nowhere"))
        without = await ask(client, provider.token())

    assert known.json()["user"]["tenant"] == shop
    assert (nowhere.status_code, without.status_code) == (401, 401)


async def test_without_a_provider_there_is_no_way_to_one(shared_database_url: str) -> None:
    async with (
        serving(shared_database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        for path in ("/v1/session/oidc", "/v1/session/oidc/callback"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"oidc_issuer": "http://id.example.com"},
        {"oidc_algorithms": "HS256"},
        {"oidc_algorithms": "none"},
        {"oidc_algorithms": ""},
        {"oidc_roles": "staff=root"},
    ],
)
async def test_settings_that_would_admit_anyone_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, **wrong)
