"""The single administrator password, for installations without an identity provider."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hmac import compare_digest
from math import inf
from pathlib import Path
from time import monotonic

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from infrawatch.access.keys.wrong_keys import WrongKeys
from infrawatch.access.principal import DEFAULT_TENANT_ID, SCOPES, Principal
from infrawatch.errors import (
    CannotStart,
    InvalidInput,
    NotFound,
    Overloaded,
    TooManyWrongKeys,
    Unauthenticated,
)
from infrawatch.store.accounts.audit import Act, Actor
from infrawatch.store.accounts.passwords import PasswordRepository
from infrawatch.store.accounts.sessions import SessionRepository
from infrawatch.store.auditing import audited
from infrawatch.store.database import Database

ADMINISTRATOR = Principal(DEFAULT_TENANT_ID, "admin", frozenset(SCOPES))

MIN_CHARACTERS = 12
MAX_CHARACTERS = 1_000

_MAX_WAITING = 20
"""An attempt takes about 50 ms of a core and 64 MiB, so attempts are checked one at a time."""

_TRUSTED_S = 2.0


class AdminPassword:
    """Checks the administrator's password, and limits attempts to guess it.

    The password in `file`, if given, replaces the one in PostgreSQL.

    Raises:
        CannotStart: the file contains no valid password.
    """

    def __init__(self, database: Database, file: Path | None, tries: WrongKeys) -> None:
        self._database = database
        self._given = None if file is None else _read(file)
        self._tries = tries
        self._looking = asyncio.Lock()
        self._waiting = 0
        self._hash: str | None = None
        self._read_at = -inf

    async def is_set(self) -> bool:
        """Whether a password is set; at most two seconds out of date."""
        return self._given is not None or await self._find_hash() is not None

    async def check(self, password: str, site: str) -> str | None:
        """Return the hash that a password sent from a site fits; None if the password is in a file.

        The hash is up to two seconds old: who begins a session has to see that it has not changed.
        Every attempt counts, right ones too, so that the limit also stops a successful guess.

        Raises:
            Unauthenticated: it is wrong, or no password is set.
            TooManyWrongKeys: the site made too many attempts, so this one was not checked.
            Overloaded: too many attempts are waiting, so this one was not checked.
        """
        pause = await self._tries.add(site)
        if pause is not None:
            raise TooManyWrongKeys(
                "too many passwords were tried from your address: wait, then try again",
                retry_after=pause,
            )
        hashed = None if self._given is not None else await self._get_hash()
        if not await self._is_right(password, hashed):
            raise Unauthenticated("this password is wrong", reason="wrong_password")
        return hashed

    async def _get_hash(self) -> str:
        hashed = await self._find_hash()
        if hashed is None:
            raise Unauthenticated(
                "there is no password: `infrawatch password set` on the server sets one",
                reason="no_password",
            )
        return hashed

    async def _is_right(self, password: str, hashed: str | None) -> bool:
        encoded = password.encode(errors="replace")
        if hashed is None:
            assert self._given is not None
            return compare_digest(self._given.encode(), encoded)
        if self._waiting >= _MAX_WAITING:
            raise Overloaded("too many passwords are being looked at: try again in a moment")
        self._waiting += 1
        try:
            async with self._looking:
                return await asyncio.to_thread(_fits, hashed, encoded)
        finally:
            self._waiting -= 1

    async def _find_hash(self) -> str | None:
        now = monotonic()
        if now - self._read_at >= _TRUSTED_S:
            async with self._database.reading() as connection:
                self._hash = await PasswordRepository(connection).find()
            self._read_at = now
        return self._hash


async def set_password(database: Database, password: str, actor: Actor) -> None:
    """Set the password, and end the sessions begun with the previous one.

    Raises:
        InvalidInput: it is too short or too long.
    """
    hashed = PasswordHasher().hash(check_length(password))
    async with _changing(database, "password.set", actor) as passwords:
        await passwords.keep(hashed)


async def remove_password(database: Database, actor: Actor) -> None:
    """Remove the password, and end the sessions begun with it.

    Raises:
        NotFound: there is none.
    """
    async with _changing(database, "password.removed", actor) as passwords:
        if not await passwords.remove():
            raise NotFound("no password is set, so there is none to remove")


def check_length(password: str) -> str:
    """Return the password itself, if its length is acceptable.

    Raises:
        InvalidInput: it is too short, or too long.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidInput(f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters")
    return password


def _read(file: Path) -> str:
    try:
        return check_length(file.read_text("utf-8").rstrip("\r\n"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"The password in {file} cannot be read: {error}.") from None
    except InvalidInput as error:
        raise CannotStart(f"{file} holds no good password: {error}.") from None


@asynccontextmanager
async def _changing(
    database: Database, action: str, actor: Actor
) -> AsyncGenerator[PasswordRepository, None]:
    """Open a transaction that changes the password, ends its sessions, and is audited."""
    async with audited(database, actor) as transaction:
        yield PasswordRepository(transaction.connection)
        ended = await SessionRepository(transaction.connection).end_of_way("password")
        act = Act(DEFAULT_TENANT_ID, action, ADMINISTRATOR.name, {"sessions_ended": ended})
        await transaction.record(act)


def _fits(hashed: str, encoded: bytes) -> bool:
    try:
        return PasswordHasher().verify(hashed, encoded)
    except (VerificationError, InvalidHashError):
        return False
