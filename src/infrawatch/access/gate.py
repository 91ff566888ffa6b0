"""The gate: authenticates and authorizes requests."""

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import HTTPConnection

from infrawatch.access.keys.credentials import find_credential
from infrawatch.access.keys.wrong_keys import WrongKeys
from infrawatch.access.limits.limiter import Limiter
from infrawatch.access.principal import EVERYBODY, Principal, Scope
from infrawatch.access.requests.refusals import Refusals, origin_of
from infrawatch.errors import LimitExceeded, ScopeMissing, TooManyWrongKeys, Unauthenticated

_HOW = (
    "send an API key as `Authorization: Bearer iw_…`; `infrawatch keys create` makes one on the "
    "server"
)

SESSION_OVER = "session_over"
"""The reason for refusing a request whose session has ended."""

_NOBODY = {"no_key", SESSION_OVER}


class Authenticator(Protocol):
    """One way to authenticate a request."""

    async def find_principal(self, connection: HTTPConnection) -> Principal | None:
        """Return the principal of a request; None if it has no credential of this kind.

        Raises:
            Unauthenticated: the credential is invalid, or no longer valid.
            StoreUnavailable: the credential cannot be checked now.
        """

    async def honours(self, principal: Principal) -> bool:
        """Whether an admitted principal is still valid; True for those of other authenticators."""


class Gate:
    """Asks each authenticator in turn; the first that recognizes a credential decides.

    Requests with a valid key are never slowed down, whatever else comes from the same address.
    """

    def __init__(
        self,
        ways: Sequence[Authenticator],
        refusals: Refusals,
        limiter: Limiter,
        wrong_keys: WrongKeys,
    ) -> None:
        self._ways = ways
        self._limiter = limiter
        self._refusals = refusals
        self._wrong_keys = wrong_keys

    async def admit(self, connection: HTTPConnection, scope: Scope) -> Principal:
        """Return the principal of a request that needs a scope.

        Raises:
            Unauthenticated: there is no valid credential.
            TooManyWrongKeys: there were too many invalid credentials from the same site.
            ScopeMissing: the principal lacks the scope.
            LimitExceeded: the principal sends too many requests.
            StoreUnavailable: the credential cannot be checked now.
        """
        principal = await self._authenticate(connection)
        if scope not in principal.scopes:
            self._refusals.note(connection, "scope_missing", str(principal))
            raise ScopeMissing(
                f"this needs the scope {scope}, and {principal} has "
                f"{', '.join(sorted(principal.scopes))}: use a key made with --scope {scope}"
            )
        await self._count(connection, principal)
        return principal

    async def identify(self, connection: HTTPConnection) -> Principal:
        """Return the principal of a request, whatever its scopes.

        Raises:
            Unauthenticated: there is no valid credential.
            TooManyWrongKeys: there were too many invalid credentials from the same site.
            LimitExceeded: the principal sends too many requests.
            StoreUnavailable: the credential cannot be checked now.
        """
        principal = await self._authenticate(connection)
        await self._count(connection, principal)
        return principal

    async def find(self, connection: HTTPConnection) -> Principal | None:
        """Return the principal of a request that may be anonymous; None if it is.

        Raises:
            Unauthenticated: the credential is invalid.
            TooManyWrongKeys: there were too many invalid credentials from the same site.
            StoreUnavailable: the credential cannot be checked now.
        """
        try:
            return await self._identify(connection)
        except Unauthenticated as error:
            if error.reason in _NOBODY:
                return None
            raise await self._refuse(connection, error) from None

    async def still_admits(self, principal: Principal) -> bool:
        """Whether a principal that was admitted earlier still would be."""
        for way in self._ways:
            if not await way.honours(principal):
                return False
        return True

    async def _authenticate(self, connection: HTTPConnection) -> Principal:
        try:
            return await self._identify(connection)
        except Unauthenticated as error:
            raise await self._refuse(connection, error) from None

    async def _count(self, connection: HTTPConnection, principal: Principal) -> None:
        try:
            await self._limiter.admit_request(principal)
        except LimitExceeded:
            self._refusals.note(connection, "too_many_requests", str(principal))
            raise

    async def _identify(self, connection: HTTPConnection) -> Principal:
        for way in self._ways:
            principal = await way.find_principal(connection)
            if principal is None:
                continue
            if connection.scope["type"] == "websocket" and not await self.still_admits(principal):
                raise Unauthenticated(
                    "what this ticket was given to is not valid any more: sign in again, or use "
                    "another key",
                    reason="withdrawn",
                    who=str(principal),
                )
            return principal
        if find_credential(connection) is None:
            raise Unauthenticated(f"this needs a key: {_HOW}", reason="no_key")
        raise Unauthenticated(f"this is not an API key of InfraWatch: {_HOW}", reason="wrong_key")

    async def _refuse(self, connection: HTTPConnection, error: Unauthenticated) -> Unauthenticated:
        refusal = await self._slowed(connection, error)
        self._refusals.note(connection, refusal.reason, refusal.who)
        return refusal

    async def _slowed(self, connection: HTTPConnection, error: Unauthenticated) -> Unauthenticated:
        """Return the error itself, or TooManyWrongKeys if there were too many like it."""
        if error.reason == "no_key" or error.who is not None:
            return error
        pause = await self._wrong_keys.add(origin_of(connection))
        if pause is None:
            return error
        return TooManyWrongKeys(
            f"too many wrong keys came from {origin_of(connection)}; a right one is let in at "
            "any time",
            retry_after=pause,
        )


class Open:
    """The authenticator while authentication is off: all requests are of the default tenant."""

    async def find_principal(self, connection: HTTPConnection) -> Principal | None:  # noqa: ARG002
        return EVERYBODY

    async def honours(self, principal: Principal) -> bool:  # noqa: ARG002
        return True
