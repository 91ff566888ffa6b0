"""User sessions: cookies whose digests are in PostgreSQL, so that any server knows them."""

import asyncio
import re
import secrets
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime, timedelta
from hmac import compare_digest
from time import monotonic
from typing import Literal, NamedTuple, cast

from starlette.requests import HTTPConnection

from infrawatch.access.gate import SESSION_OVER
from infrawatch.access.keys.credentials import digest_of
from infrawatch.access.keys.keyring import READ_DEADLINE_S, TRUSTED_S, KeyRing
from infrawatch.access.login.cookies import SAFE_METHODS, find_cookie, is_from_own_page
from infrawatch.access.principal import Principal, Scope
from infrawatch.errors import Forbidden, NotFound, StoreUnavailable, Unauthenticated, Unavailable
from infrawatch.model.timerange import now_us, to_us
from infrawatch.store.accounts.audit import Act, Actor
from infrawatch.store.accounts.passwords import PasswordRepository
from infrawatch.store.accounts.sessions import NewSession, SessionRepository, StoredSession
from infrawatch.store.auditing import audited
from infrawatch.store.database import Database

Way = Literal["password", "oidc", "key"]

MAX_CACHED = 10_000

NOTE_EVERY = timedelta(minutes=1)
"""How often the use of a session is recorded."""

_COOKIE = re.compile(r"([0-9a-f]{16})\.[A-Za-z0-9_-]{43}")


class StartedSession(NamedTuple):
    """A new session with its cookie, which is not known later."""

    cookie: str
    principal: Principal


class _Cached(NamedTuple):
    session: StoredSession
    principal: Principal
    read_at: float

    def is_over(self) -> bool:
        return now_us() >= to_us(self.session.expires_at)


class Sessions:
    """Begins and ends sessions, and identifies cookies; at most two seconds out of date.

    While PostgreSQL is unreachable, known sessions stay valid: none can be ended meanwhile.
    """

    def __init__(
        self, database: Database, keys: KeyRing, *, idle: timedelta, life: timedelta
    ) -> None:
        self._database = database
        self._keys = keys
        self.idle = idle
        self.life = life
        self._cached: OrderedDict[str, _Cached] = OrderedDict()
        self._reading = asyncio.Lock()

    async def begin(
        self,
        connection: HTTPConnection,
        principal: Principal,
        way: Way,
        password_hash: str | None = None,
    ) -> StartedSession:
        """Begin a session, which ends after `life` or with the principal's credential.

        The session whose cookie came with the request is ended: its browser loses that cookie.

        Raises:
            Unauthenticated: `password_hash` is given, and no longer that of the password.
        """
        if (replaced := await self.find(connection)) is not None:
            await self.end(replaced)
        session_id = secrets.token_hex(8)
        cookie = f"{session_id}.{secrets.token_urlsafe(32)}"
        session = NewSession(
            session_id,
            digest_of(cookie),
            principal.tenant_id,
            principal.name,
            list(principal.scopes),
            way,
            principal.key_id,
        )
        async with audited(self._database, principal.actor) as transaction:
            passwords = PasswordRepository(transaction.connection)
            if password_hash is not None and not await passwords.hold(password_hash):
                raise Unauthenticated(
                    "the password was changed just now", reason="wrong_password", who=str(principal)
                )
            sessions = SessionRepository(transaction.connection)
            await sessions.forget(self.idle)
            ends = await sessions.add(session, self.life, principal.good_until)
            act = Act(principal.tenant_id, "session.created", session_id, {"way": way})
            await transaction.record(act)
        return StartedSession(cookie, principal._replace(session_id=session_id, good_until=ends))

    async def end(self, principal: Principal) -> None:
        """End a session: here at once, and on every other server within two seconds."""
        assert principal.session_id is not None
        async with self._reading:  # otherwise a read that began before would put it back
            self._cached.pop(principal.session_id, None)
            with suppress(NotFound):  # it was ended concurrently
                await end_session(self._database, principal.session_id, principal.actor)

    async def find_principal(self, connection: HTTPConnection) -> Principal | None:
        """Return the session's principal. Cookies never open WebSockets: pages use tickets.

        Raises:
            Forbidden: the session is valid, but a page of another site may have sent the request.
        """
        if connection.scope["type"] != "http" or find_cookie(connection) is None:
            return None
        principal = await self.find(connection)
        if principal is None:
            raise Unauthenticated(
                "you are not signed in any more: sign in again",
                reason=SESSION_OVER,
                who="a session",
            )
        if connection.scope["method"] not in SAFE_METHODS and not is_from_own_page(connection):
            raise Forbidden(
                "a page from elsewhere may not use your session; a program that does sends the "
                "header X-Requested-With"
            )
        return principal

    async def find(self, connection: HTTPConnection) -> Principal | None:
        """Return the principal of a request's session cookie; None if there is no valid session."""
        cookie = find_cookie(connection)
        found = _COOKIE.fullmatch(cookie or "")
        cached = None if found is None else await self._find(found[1])
        if cached is None or not compare_digest(cached.session.digest, digest_of(cookie or "")):
            return None
        return cached.principal if await self._keys.honours(cached.principal) else None

    async def honours(self, principal: Principal) -> bool:
        if principal.session_id is None:
            return True
        try:
            return await self._find(principal.session_id) is not None
        except Unavailable:  # so it cannot have been ended
            return principal.good_until is None or now_us() < to_us(principal.good_until)

    async def _find(self, session_id: str) -> _Cached | None:
        cached = self._cached.get(session_id)
        if cached is None or monotonic() - cached.read_at >= TRUSTED_S:
            async with self._reading:
                cached = await self._read_anew(session_id)
        return None if cached is None or cached.is_over() else cached

    async def _read_anew(self, session_id: str) -> _Cached | None:
        """Read a session, unless another task did while this one waited."""
        cached = self._cached.get(session_id)  # and stays there if this task is cancelled
        began = monotonic()
        if cached is None or began - cached.read_at >= TRUSTED_S:
            try:
                async with asyncio.timeout(READ_DEADLINE_S):
                    session = await self._read(session_id)
            except (TimeoutError, Unavailable):
                if cached is None:
                    raise StoreUnavailable(
                        "PostgreSQL cannot be asked about sessions now; try again shortly"
                    ) from None
                session = cached.session
            self._cached.pop(session_id, None)
            if session is None:
                return None
            cached = self._cached[session_id] = _Cached(session, _to_principal(session), began)
            if len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        return cached

    async def _read(self, session_id: str) -> StoredSession | None:
        async with self._database.reading() as connection:
            session = await SessionRepository(connection).find(session_id, self.idle)
        if session is not None and _age(session.used_at) >= NOTE_EVERY:
            async with self._database.writing() as connection:
                await SessionRepository(connection).note_use(session_id, NOTE_EVERY)
        return session


async def end_session(database: Database, session_id: str, actor: Actor) -> None:
    """End a session, and record it in the audit trail.

    Raises:
        NotFound: there is no session with this id, or no longer.
    """
    async with audited(database, actor) as transaction:
        tenant_id = await SessionRepository(transaction.connection).end(session_id)
        if tenant_id is None:
            raise NotFound(
                f"there is no session {session_id[:50]!r}; `infrawatch sessions list` shows all"
            )
        await transaction.record(Act(tenant_id, "session.ended", session_id, {}))


def _age(time: datetime) -> timedelta:
    return timedelta(microseconds=now_us() - to_us(time))


def _to_principal(session: StoredSession) -> Principal:
    return Principal(
        session.tenant_id,
        session.name,
        frozenset(cast("list[Scope]", session.scopes)),
        session.key_id,
        session_id=session.id,
        good_until=session.expires_at,
    )
