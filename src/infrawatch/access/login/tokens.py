"""JSON web tokens of the identity provider: their verification and their principals."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, NamedTuple, cast

import jwt
from jwt.exceptions import InvalidTokenError
from starlette.requests import HTTPConnection

from infrawatch.access.keys.credentials import digest_of, find_credential
from infrawatch.access.login.issuer import Issuer
from infrawatch.access.principal import SCOPES, Principal, Scope
from infrawatch.errors import NotFound, Unauthenticated
from infrawatch.model.timerange import now_us, to_us
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.database import Database

LEEWAY = timedelta(seconds=30)
"""How far the provider's clock may differ from this server's."""

MAX_CHARACTERS = 16 * 1024
MAX_CACHED = 10_000

CACHED_S = 300.0
"""How long a token is not verified again, unless it expires: its key may have been withdrawn."""

MAX_NAME_CHARACTERS = 100

# Three parts in base64url (RFC 7515, 7.1), the first of which is a JSON object.
_LOOKS_SO = re.compile(r"ey[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")

_NEEDED = ["iss", "aud", "sub", "exp", "iat"]


class _Cached(NamedTuple):
    principal: Principal
    verified_at: float


class Tokens:
    """Verifies tokens, and remembers valid ones for a while."""

    def __init__(self, database: Database, issuer: Issuer) -> None:
        self.issuer = issuer
        self._database = database
        self._cached: OrderedDict[bytes, _Cached] = OrderedDict()

    async def find_principal(self, connection: HTTPConnection) -> Principal | None:
        token = find_credential(connection)
        audience = self.issuer.options.audience
        if token is None or audience is None or not _LOOKS_SO.fullmatch(token):
            return None
        digest = digest_of(token)
        cached = self._cached.get(digest)
        if cached is None or monotonic() - cached.verified_at >= CACHED_S:
            self._cached.pop(digest, None)
            principal = await self.to_principal(await self.read(token, audience))
            cached = self._cached[digest] = _Cached(principal, monotonic())
            if len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        if not _is_good(cached.principal):
            self._cached.pop(digest, None)
            raise _wrong("has expired")
        return cached.principal

    async def honours(self, principal: Principal) -> bool:
        """Whether the principal's token has not expired; `Sessions` decides about sessions."""
        return principal.session_id is not None or _is_good(principal)

    async def read(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the claims of a token, if the provider issued it for this audience.

        Raises:
            Unauthenticated: it is invalid, has expired, or is not valid yet.
            ServerUnavailable: the provider's key has to be fetched, and cannot be.
        """
        options = self.issuer.options
        if len(token) > MAX_CHARACTERS:
            raise _wrong(
                f"has more than {MAX_CHARACTERS} characters: have the identity provider put fewer "
                "claims into it"
            )
        try:
            head = jwt.get_unverified_header(token)
        except (InvalidTokenError, RecursionError):  # PyJWT parses JSON of any depth
            raise _wrong("cannot be read") from None
        # The settings, not the token, decide which algorithms are allowed (RFC 8725, 3.1).
        if head.get("alg") not in options.algorithms:
            raise _wrong("is signed in a way that is not in INFRAWATCH_OIDC_ALGORITHMS")
        key = await self.issuer.find_key(str(head.get("kid")), head["alg"])
        if key is None:
            raise _wrong("is signed with a key that is none of the identity provider's")
        try:
            return await asyncio.to_thread(
                jwt.decode,
                token,
                key,
                algorithms=[head["alg"]],
                audience=audience,
                issuer=options.issuer,
                leeway=LEEWAY,
                options={"require": _NEEDED},
            )
        except InvalidTokenError as error:
            raise _wrong(f"is not good: {error}") from None

    async def to_principal(self, claims: Mapping[str, Any]) -> Principal:
        """Return the principal of claims, with tenant and scopes as the settings define them.

        Raises:
            Unauthenticated: the tenant does not exist, or a claim is unusable.
        """
        name = _to_name(claims)
        try:
            async with self._database.reading() as connection:
                tenant_id = (await TenantRepository(connection).get(self._tenant(claims))).id
        except NotFound:
            raise Unauthenticated(
                "the identity provider says that you belong to a tenant that is not here; see "
                "INFRAWATCH_OIDC_TENANT_CLAIM",
                reason="no_such_tenant",
                who=name,
            ) from None
        try:
            until = datetime.fromtimestamp(int(claims["exp"]), UTC) + LEEWAY
        except (OverflowError, ValueError):
            raise _wrong("expires beyond the year 9999") from None
        return Principal(tenant_id, name, self._scopes(claims), good_until=until)

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        """Return the name of the tenant.

        Raises:
            NotFound: the claim that should have it is not a name.
        """
        options = self.issuer.options
        if options.tenant_claim is None:
            return options.tenant
        claim = _find(claims, options.tenant_claim)
        if not isinstance(claim, str) or not claim.isprintable():
            raise NotFound("the claim is no name")
        return claim

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        options = self.issuer.options
        claim = _find(claims, options.role_claim)
        listed = claim if isinstance(claim, list) else [claim]
        roles = {"*", *(str(role) for role in listed if role is not None)}
        granted = {
            scope
            for role, scopes in options.roles.items()
            if role in roles
            for scope in scopes.split("+")
        }
        return frozenset(cast("set[Scope]", granted & set(SCOPES)))


def _is_good(principal: Principal) -> bool:
    return principal.good_until is None or now_us() < to_us(principal.good_until)


def _find(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of this name or, for `a.b`, the member b of the claim a."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _to_name(claims: Mapping[str, Any]) -> str:
    """Return a name for people, in the page's header, the log and the audit trail."""
    for claim in map(claims.get, ("preferred_username", "email", "sub")):
        name = "".join(filter(str.isprintable, claim)) if isinstance(claim, str) else ""
        if name:
            return name[:MAX_NAME_CHARACTERS]
    raise _wrong("names nobody")


def _wrong(why: str) -> Unauthenticated:
    return Unauthenticated(f"this token {why}", reason="wrong_token")
