"""The identity provider: where it is asked what, and with which keys it signs (OpenID Connect)."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Self

import structlog
from httpx import AsyncClient, HTTPError, InvalidURL, Response
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from pydantic_core import from_json

from infrawatch.errors import CannotStart, ServerUnavailable

log = structlog.get_logger()

# As the issuer in the settings: https, http on loopback alone.
_ENDPOINT = re.compile(r"(https://|http://(127\.0\.0\.1|localhost)[:/])[!-~]+")

DEADLINE_S = 5.0
"""For an answer, from the first byte that is sent to the last one that comes."""

AWAY_S = 5.0
"""How soon a provider that gave no answer is asked again: whoever waits for it is told at once."""

MAX_ANSWER_BYTES = 1024 * 1024

DISCOVERED_S = 3600.0
"""How long what the provider says of itself counts."""

KEYS_AGAIN_S = 60.0
"""How soon keys are asked for again: whoever makes up key ids does not make us ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcOptions:
    """Which provider is believed what.

    `audience` is that of tokens which programs send; None lets no program in with a token. `roles`
    are the scopes of who has a value of `role_claim`; `*` is everybody. Without `tenant_claim`
    everybody belongs to `tenant`.
    """

    issuer: str
    client_id: str
    client_secret_file: Path | None
    audience: str | None
    algorithms: Sequence[str]
    name: str
    scopes: str
    role_claim: str
    roles: Mapping[str, str]
    tenant_claim: str | None
    tenant: str


class Issuer:
    """Asks the provider, once for all who wait; what was right before is kept while it is away."""

    def __init__(self, options: OidcOptions, client: AsyncClient) -> None:
        self.options = options
        self._secret = _read_secret(options.client_secret_file)
        self._client = client
        self._asking = asyncio.Lock()
        self._discovered: dict[str, Any] = {}
        self._discovered_at = -inf
        self._keys: dict[str, PyJWK] = {}
        self._keys_asked_at = -inf
        self._away_at = -inf

    @classmethod
    @asynccontextmanager
    async def open(cls, options: OidcOptions) -> AsyncGenerator[Self, None]:
        # Neither a redirect nor a proxy of the environment leads us to other keys.
        # Nor does an answer grow when it is read.
        headers = {"Accept-Encoding": "identity"}
        async with AsyncClient(timeout=DEADLINE_S, trust_env=False, headers=headers) as client:
            yield cls(options, client)

    async def endpoint(self, name: str) -> str:
        """Where the provider does something: `token_endpoint` and the like.

        Raises:
            ServerUnavailable: it cannot be asked, or speaks for another issuer.
        """
        async with self._asking:
            if monotonic() - self._discovered_at >= DISCOVERED_S:
                await self._discover()
        found = self._discovered.get(name)
        if not isinstance(found, str) or not _ENDPOINT.fullmatch(found):
            raise ServerUnavailable(f"the identity provider names no {name}, or one without https")
        return found

    async def find_key(self, key_id: str) -> PyJWK | None:
        """The key with an id; the provider is asked for one we do not know, once a minute at most.

        Raises:
            ServerUnavailable: it has to be asked, and cannot be.
        """
        if key_id not in self._keys:
            jwks_url = await self.endpoint("jwks_uri")
            async with self._asking:
                if key_id not in self._keys and monotonic() - self._keys_asked_at >= KEYS_AGAIN_S:
                    self._keys = _to_keys(await self._get(jwks_url))
                    self._keys_asked_at = monotonic()
        return self._keys.get(key_id)

    async def trade(self, code: str, verifier: str, redirect_uri: str) -> str | None:
        """The ID token that a code is good for (RFC 6749, 4.1.3; RFC 7636); None for none.

        Raises:
            ServerUnavailable: the provider cannot be asked.
        """
        options = self.options
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": options.client_id,
        }
        url = await self.endpoint("token_endpoint")
        if self._secret is not None:
            form["client_secret"] = self._secret
        answer, said = await self._ask("POST", url, form)
        if answer.is_server_error:
            raise ServerUnavailable(f"the identity provider answered {answer.status_code}")
        token = said.get("id_token") if answer.is_success and isinstance(said, dict) else None
        if not isinstance(token, str):
            log.warning("oidc_code_refused", status=answer.status_code)
            return None
        return token

    async def _discover(self) -> None:
        url = f"{self.options.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            found = await self._get(url)
        except ServerUnavailable:
            if not self._discovered:
                raise
            found = self._discovered
        if found.get("issuer") != self.options.issuer:  # OpenID Connect Discovery, 4.3
            raise ServerUnavailable(
                "the identity provider calls itself otherwise: INFRAWATCH_OIDC_ISSUER has to be "
                "exactly the `issuer` of its discovery document"
            )
        self._discovered, self._discovered_at = found, monotonic()

    async def _get(self, url: str) -> dict[str, Any]:
        if monotonic() - self._away_at < AWAY_S:
            raise ServerUnavailable("the identity provider cannot be reached")
        self._away_at = monotonic()  # unless it answers
        answer, found = await self._ask("GET", url)
        if not answer.is_success or not isinstance(found, dict):
            raise ServerUnavailable(
                "the identity provider gave an answer that is not JSON, or an error"
            )
        self._away_at = -inf
        return found

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None = None
    ) -> tuple[Response, Any]:
        """The answer, and the JSON in it; whoever is there instead of it can keep us no longer."""
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._client.stream(method, url, data=form) as answer,
            ):
                body = await _read(answer)
            return answer, from_json(body) if body else None
        except (HTTPError, InvalidURL, TimeoutError, ValueError) as error:
            log.warning("oidc_provider_away", error=type(error).__name__)
            raise ServerUnavailable("the identity provider cannot be reached") from None


async def _read(answer: Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
    return bytes(body)


def _read_secret(file: Path | None) -> str | None:
    """The client's secret; None for a client without one.

    Raises:
        CannotStart: the file cannot be read, or is empty.
    """
    if file is None:
        return None
    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise CannotStart(f"The client's secret in {file} cannot be read: {error}.") from None
    if not secret:
        raise CannotStart(
            f"{file} is empty: put the client's secret into it, or unset "
            "INFRAWATCH_OIDC_CLIENT_SECRET_FILE."
        )
    return secret


def _to_keys(found: Mapping[str, Any]) -> dict[str, PyJWK]:
    """Those that sign, by id; of kinds we do not know, and without a name, none."""
    keys: dict[str, PyJWK] = {}
    listed = found.get("keys")
    for one in listed if isinstance(listed, list) else []:
        is_signing = isinstance(one, dict) and one.get("use", "sig") == "sig"
        if not is_signing or one.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        with suppress(PyJWTError, KeyError, TypeError):  # of others' making, and not all are right
            keys[str(one["kid"])] = PyJWK(one)
    return keys
