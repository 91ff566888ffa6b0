"""/v1/session/oidc: signing in at the identity provider (authorization code with PKCE)."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse

from infrawatch.access.access import Access
from infrawatch.access.login.cookies import drop_cookie, find_cookie, keep_cookie
from infrawatch.access.needs import TheAccess
from infrawatch.access.principal import Principal
from infrawatch.access.requests.origins import find_public_url
from infrawatch.errors import NotFound, ServerUnavailable, Unauthenticated, Unavailable
from infrawatch.problems import problem_response

if TYPE_CHECKING:  # they are imported only with a provider
    from infrawatch.access.login.issuer import Issuer
    from infrawatch.access.login.tokens import Tokens

log = structlog.get_logger()

COOKIE = "infrawatch_sign_in"
PATIENCE = timedelta(minutes=10)
"""How long a sign-in at the provider may take."""

CALLBACK = "/v1/session/oidc/callback"

_RESPONSES: dict[int | str, dict[str, Any]] = {
    303: {"description": "Where to go next."},
    404: problem_response("No identity provider is set up."),
    503: problem_response("The identity provider cannot be reached."),
}

router = APIRouter(prefix="/v1", tags=["access"], responses=_RESPONSES)


class _Secrets(NamedTuple):
    """Secrets that the browser keeps in a cookie while it is at the provider.

    `state` binds the callback to the browser, `nonce` the ID token, `verifier` the code (RFC 7636).
    """

    state: str
    nonce: str
    verifier: str


class _Refused(Exception):  # ends in a redirect, not in a problem
    """The sign-in failed; the page has a message for each reason."""


@router.get("/session/oidc", status_code=303, response_class=RedirectResponse)
async def start_oidc_sign_in(request: Request, access: TheAccess) -> RedirectResponse:
    """Redirect to the identity provider, which then redirects to `/v1/session/oidc/callback`.

    While the provider is away, browsers are redirected to the sign-in page, which says so.
    """
    issuer, _ = _provider(access)
    made = _Secrets(*(secrets.token_urlsafe(32) for _ in range(3)))
    parameters = {
        "response_type": "code",
        "client_id": issuer.options.client_id,
        "redirect_uri": _callback(request),
        "scope": issuer.options.scopes,
        "state": made.state,
        "nonce": made.nonce,
        "code_challenge": urlsafe_b64encode(sha256(made.verifier.encode()).digest())
        .rstrip(b"=")
        .decode(),
        "code_challenge_method": "S256",
    }
    try:
        where = await issuer.endpoint("authorization_endpoint")
    except ServerUnavailable:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        return _to_sign_in("away")
    joint = "&" if "?" in where else "?"
    response = RedirectResponse(f"{where}{joint}{urlencode(parameters)}", status_code=303)
    keep_cookie(response, request, ".".join(made), PATIENCE, COOKIE)
    return response


@router.get("/session/oidc/callback", status_code=303, response_class=RedirectResponse)
async def finish_oidc_sign_in(
    request: Request,
    access: TheAccess,
    code: Annotated[str | None, Query(max_length=4096)] = None,
    state: Annotated[str, Query(max_length=200)] = "",
    iss: Annotated[str | None, Query(max_length=1000)] = None,
) -> RedirectResponse:
    """Complete the sign-in and redirect to the dashboard, with the reason if it failed."""
    try:
        issuer, _ = _provider(access)
        made = _secrets_of(request, state)
        came = code if iss in (None, issuer.options.issuer) else None  # RFC 9207
        principal = await _identify(access, made, came, _callback(request))
        started = await access.sessions.begin(request, principal._replace(good_until=None), "oidc")
        response = RedirectResponse("/", status_code=303)
        keep_cookie(response, request, started.cookie, access.sessions.life)
    except _Refused as error:
        access.refusals.note(request, f"oidc_{error}")
        response = _to_sign_in(str(error))
    except Unavailable:
        response = _to_sign_in("later")
    drop_cookie(response, request, COOKIE)
    return response


async def _identify(access: Access, made: _Secrets, code: str | None, callback: str) -> Principal:
    """Return the principal that a code stands for.

    Raises:
        _Refused: the code cannot be verified, or the principal has no scopes.
    """
    issuer, tokens = _provider(access)
    try:
        token = None if code is None else await issuer.trade(code, made.verifier, callback)
        claims = {} if token is None else await tokens.read(token, issuer.options.client_id)
        principal = await tokens.to_principal(claims) if _is_for_us(claims, made, issuer) else None
    except ServerUnavailable:
        raise _Refused("away") from None
    except Unauthenticated as error:
        log.warning("oidc_token_refused", error=str(error))
        raise _Refused("no_role" if error.reason == "no_such_tenant" else "refused") from None
    if principal is None or not principal.scopes:
        raise _Refused("refused" if principal is None else "no_role")
    return principal


def _is_for_us(claims: Mapping[str, Any], made: _Secrets, issuer: "Issuer") -> bool:
    """Whether an ID token is for this sign-in and this client (OpenID Connect Core, 3.1.3.7)."""
    us = issuer.options.client_id
    is_ours = compare_digest(str(claims.get("nonce")).encode(), made.nonce.encode())
    return is_ours and claims.get("azp", us) == us


def _to_sign_in(problem: str) -> RedirectResponse:
    return RedirectResponse(f"/#/sign-in?problem={problem}", status_code=303)


def _provider(access: Access) -> "tuple[Issuer, Tokens]":
    if access.issuer is None or access.tokens is None:
        raise NotFound("no identity provider is set up: INFRAWATCH_OIDC_ISSUER names one")
    return access.issuer, access.tokens


def _secrets_of(request: Request, state: str) -> _Secrets:
    parts = (find_cookie(request, COOKIE) or "").split(".")
    if len(parts) != len(_Secrets._fields):
        raise _Refused("expired")
    made = _Secrets(*parts)
    if not compare_digest(made.state.encode(), state.encode()):
        raise _Refused("expired")
    return made


def _callback(request: Request) -> str:
    public_url = find_public_url(request)
    if public_url is not None:
        return f"{public_url}{CALLBACK}"
    return str(request.url.replace(path=CALLBACK, query="", fragment=""))
