"""The identity provider: its endpoints and signing keys (OpenID Connect)."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Self

import structlog
from httpx import AsyncClient, HTTPError, InvalidURL, Response
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from pydantic_core import from_json

from infrawatch.access.login.oidc_options import OidcOptions
from infrawatch.errors import CannotStart, ServerUnavailable

log = structlog.get_logger()

# Like the issuer in the settings: https, or http on loopback only.
_ENDPOINT = re.compile(r"(https://|http://(127\.0\.0\.1|localhost)[:/])[!-~]+")

DEADLINE_S = 5.0
"""For a response, from the first byte sent to the last byte received."""

AWAY_S = 5.0
"""Pause before an unresponsive provider is asked again; requests that need it fail meanwhile."""

MAX_ANSWER_BYTES = 1024 * 1024

DISCOVERED_S = 3600.0
"""How long the provider's discovery document is cached."""

KEYS_AGAIN_S = 60.0
"""Minimum time between fetches of the keys, which made-up key ids cannot shorten."""

KEYS_GOOD_S = 300.0
"""After this time the keys are fetched again, so that withdrawn ones are forgotten."""


class Issuer:
    """Asks the provider, once for all waiting requests; cached answers outlast its outages."""

    def __init__(self, options: OidcOptions, client: AsyncClient) -> None:
        self.options = options
        self._secret = _read_secret(options.client_secret_file)
        self._client = client
        self._asking = asyncio.Lock()
        self._discovered: dict[str, Any] = {}
        self._discovered_at = -inf
        self._keys: dict[tuple[str, str], PyJWK] = {}
        self._keys_asked_at = -inf
        self._away_at = -inf

    @classmethod
    @asynccontextmanager
    async def open(cls, options: OidcOptions) -> AsyncGenerator[Self, None]:
        # No redirects and no proxies from the environment, which could lead to other keys.
        # No compression, so that a response does not grow when it is read.
        headers = {"Accept-Encoding": "identity"}
        async with AsyncClient(timeout=DEADLINE_S, trust_env=False, headers=headers) as client:
            yield cls(options, client)

    async def endpoint(self, name: str) -> str:
        """Return the URL of one of the provider's endpoints, such as `token_endpoint`.

        Raises:
            ServerUnavailable: it is unreachable, is another issuer, or names no such endpoint.
        """
        async with self._asking:
            if monotonic() - self._discovered_at >= DISCOVERED_S:
                await self._discover()
        found = self._discovered.get(name)
        if not isinstance(found, str) or not _ENDPOINT.fullmatch(found):
            raise ServerUnavailable(f"the identity provider names no {name}, or one without https")
        return found

    async def find_key(self, key_id: str, algorithm: str) -> PyJWK | None:
        """Return a key for an algorithm; for an unknown id, fetch the keys, at most once a minute.

        Raises:
            ServerUnavailable: the keys have to be fetched, and cannot be.
        """
        if (key_id, algorithm) not in self._keys:
            await self._read_keys()
        return self._keys.get((key_id, algorithm))

    async def run(self) -> None:
        """Fetch the keys from time to time, forever, unless no token has needed them yet."""
        while True:
            await asyncio.sleep(KEYS_GOOD_S)
            if self._keys:
                with suppress(ServerUnavailable):  # until it is back, the old ones are good
                    await self._read_keys()

    async def trade(self, code: str, verifier: str, redirect_uri: str) -> str | None:
        """Exchange a code for an ID token (RFC 6749, 4.1.3; RFC 7636); None if it is refused.

        Raises:
            ServerUnavailable: the provider is unreachable.
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
        answer, data = await self._ask("POST", url, form)
        if answer.is_server_error:
            raise ServerUnavailable(f"the identity provider answered {answer.status_code}")
        token = data.get("id_token") if answer.is_success and isinstance(data, dict) else None
        if not isinstance(token, str):
            log.warning("oidc_code_refused", status=answer.status_code)
            return None
        return token

    async def _read_keys(self) -> None:
        jwks_url = await self.endpoint("jwks_uri")
        async with self._asking:
            if monotonic() - self._keys_asked_at >= KEYS_AGAIN_S:
                found = await self._get(jwks_url)
                self._keys = _to_keys(found, self.options.algorithms)
                self._keys_asked_at = monotonic()

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
        try:
            answer, found = await self._ask("GET", url)
        finally:  # unless it answers; those who waited meanwhile do not wait for it again
            self._away_at = monotonic()
        if not answer.is_success or not isinstance(found, dict):
            raise ServerUnavailable(
                "the identity provider gave an answer that is not JSON, or an error"
            )
        self._away_at = -inf
        return found

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None = None
    ) -> tuple[Response, Any]:
        """Return the response and its JSON; slow or oversized responses are cut off."""
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


def _to_keys(found: Mapping[str, Any], algorithms: Sequence[str]) -> dict[tuple[str, str], PyJWK]:
    """Return the usable keys by id and algorithm; a key that names none is for all of its type.

    Raises:
        ServerUnavailable: there are none, as in the answer of a provider that is misconfigured.
    """
    keys: dict[tuple[str, str], PyJWK] = {}
    listed = found.get("keys")
    for one in filter(_is_public, listed if isinstance(listed, list) else []):
        for algorithm in algorithms:
            if one.get("alg", algorithm) == algorithm:
                with suppress(PyJWTError, KeyError, TypeError):  # malformed keys are skipped
                    keys[str(one["kid"]), algorithm] = PyJWK(one, algorithm)
    if not keys:
        raise ServerUnavailable(
            "the identity provider publishes no key for INFRAWATCH_OIDC_ALGORITHMS"
        )
    return keys


def _is_public(key: object) -> bool:
    """Whether this is a public key that signatures may be verified with (RFC 7517, 4.2 and 4.3)."""
    if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or "d" in key:
        return False
    uses = key.get("key_ops", ["verify"])
    return key.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses
