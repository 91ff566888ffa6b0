"""A small OpenID Connect provider, which signs whatever a test wants signed."""

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI, Request, Response
from integration.conftest import running
from jwt.algorithms import RSAAlgorithm
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infrawatch.model.timerange import now_us

CLIENT, SECRET, AUDIENCE = "infrawatch", "the client's own secret", "https://infrawatch.example"


def now_s() -> int:
    return now_us() // 1_000_000


def a_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@dataclass
class Provider:
    """`claims` are those of all who sign in; `keys` those that it publishes."""

    issuer: str = ""
    secret_file: Path | None = None
    keys: dict[str, RSAPrivateKey] = field(default_factory=lambda: {"one": a_key()})
    claims: dict[str, Any] = field(default_factory=dict)
    asked_for_keys: int = 0
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    instead: dict[str, ASGIApp] = field(default_factory=dict)
    """What answers on some paths, if not what should."""

    def token(self, *, key_id: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        """A token for the API; claims that are None are left out."""
        all_claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "u-1",
            "iat": now_s(),
            "exp": now_s() + 300,
            **self.claims,
            **claims,
        }
        kept = {name: value for name, value in all_claims.items() if value is not None}
        return jwt.encode(kept, self.keys[key_id], algorithm, {"kid": key_id})

    def public_pem(self) -> bytes:
        public = self.keys["one"].public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@asynccontextmanager
async def providing() -> AsyncGenerator[Provider, None]:
    """Run a provider, as a server of its own."""
    provider = Provider()
    with TemporaryDirectory() as directory:
        provider.secret_file = Path(directory) / "secret"
        provider.secret_file.write_text(f"{SECRET}\n")
        async with running(_Wicked(provider)) as url:
            provider.issuer = url
            yield provider


class _Wicked:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._app = _app(provider)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._provider.instead.get(scope.get("path", ""), self._app)
        await app(scope, receive, send)


def _app(provider: Provider) -> FastAPI:
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    async def discover() -> dict[str, str]:
        at = provider.issuer
        return {
            "issuer": at,
            "authorization_endpoint": f"{at}/authorize",
            "token_endpoint": f"{at}/token",
            "jwks_uri": f"{at}/jwks",
        }

    @app.get("/jwks")
    async def jwks() -> dict[str, Any]:
        provider.asked_for_keys += 1
        made = {
            key_id: json.loads(RSAAlgorithm.to_jwk(key.public_key()))
            for key_id, key in provider.keys.items()
        }
        return {"keys": [one | {"kid": key_id, "use": "sig"} for key_id, one in made.items()]}

    @app.get("/authorize")
    async def authorize(request: Request) -> Response:
        asked = dict(request.query_params)
        if asked.get("client_id") != CLIENT or asked.get("code_challenge_method") != "S256":
            return Response(status_code=400)
        code = secrets.token_urlsafe(16)
        provider.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": provider.issuer})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", status_code=303)

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = {name: one[0] for name, one in parse_qs((await request.body()).decode()).items()}
        asked = provider.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_good = (
            asked is not None
            and challenge == asked["code_challenge"]
            and form.get("redirect_uri") == asked["redirect_uri"]
            and (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        )
        if asked is None or not is_good:
            return Response('{"error":"invalid_grant"}', 400, media_type="application/json")
        told = {"aud": CLIENT, "nonce": asked["nonce"]} | provider.claims
        answer = {"id_token": provider.token(**told), "access_token": "x", "token_type": "Bearer"}
        return Response(json.dumps(answer), media_type="application/json")

    return app
