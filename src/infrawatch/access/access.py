"""Access control of a process: the authenticators, and the gate that consults them."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from infrawatch.access.gate import Authenticator, Gate, Open
from infrawatch.access.keys.keyring import KeyRing
from infrawatch.access.keys.wrong_keys import WrongKeys
from infrawatch.access.limits.limiter import Limiter
from infrawatch.access.limits.rates import Rates
from infrawatch.access.limits.shared import Shared
from infrawatch.access.login.oidc_options import OidcOptions
from infrawatch.access.login.passwords import AdminPassword
from infrawatch.access.login.sessions import Sessions
from infrawatch.access.login.tickets import Tickets
from infrawatch.access.requests.refusals import Refusals
from infrawatch.store.database import Database
from infrawatch.store.installation import get_epoch
from infrawatch.telemetry import Telemetry

if TYPE_CHECKING:
    from infrawatch.access.login.tokens import Tokens

DEADLINE = timedelta(seconds=5)
"""For statements about access: all are small, and requests wait for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOptions:
    """The password in `password_file`, if given, replaces the one in PostgreSQL.

    `write_deadline` is that of a batch.
    """

    is_required: bool
    are_metrics_open: bool
    session_idle: timedelta
    session_life: timedelta
    write_deadline: timedelta
    password_file: Path | None = None
    redis_url: str | None = None
    oidc: OidcOptions | None = None


class Access:
    """Access control, as routes find it in the app's state; `runs` are its vital, endless tasks.

    A further way to authenticate is one more authenticator in `ways`.
    """

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        options: AccessOptions,
        tokens: "Tokens | None",
        shared: Shared,
    ) -> None:
        key_ring = KeyRing(database)
        rates = Rates(options.redis_url, shared.key("rates"))
        self.database = database
        self.tickets = Tickets(database)
        self.password = AdminPassword(
            database, options.password_file, WrongKeys(rates, "wrong_passwords")
        )
        self.sessions = Sessions(
            database, key_ring, idle=options.session_idle, life=options.session_life
        )
        self.tokens = tokens
        self.issuer = None if tokens is None else tokens.issuer
        # Headers take precedence over the cookie, which browsers add by themselves.
        ways: Sequence[Authenticator] = (
            *(self.tickets, key_ring),
            *(() if tokens is None else (tokens,)),
            self.sessions,
        )
        self.is_required = options.is_required
        self.refusals = Refusals(telemetry)
        self.limiter = Limiter(database, rates, shared, options.write_deadline)
        asked = ways if options.is_required else (Open(),)
        self.gate = Gate(asked, self.refusals, self.limiter, WrongKeys(rates, "wrong_keys"))
        self.are_metrics_open = options.are_metrics_open
        self.runs: Sequence[Callable[[], Coroutine[object, object, None]]] = (
            *self.limiter.runs,
            *((key_ring.run,) if options.is_required else ()),
            *(() if tokens is None else (tokens.issuer.run,)),
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, telemetry: Telemetry, options: AccessOptions
    ) -> AsyncGenerator[Self, None]:
        """Open it on two connections of its own, as queries may occupy all of theirs."""
        async with (
            Database.open(
                url,
                write_pool_size=1,
                read_pool_size=1,
                write_deadline=DEADLINE,
                read_deadline=DEADLINE,
            ) as database,
            _tokens(database, options.oidc) as tokens,
        ):
            async with database.reading() as connection:
                epoch = await get_epoch(connection)
            async with Shared.open(options.redis_url, epoch) as shared:
                access = cls(database, telemetry, options, tokens, shared)
                await access.limiter.cache.read()  # limits apply to the first request, too
                yield access


@asynccontextmanager
async def _tokens(
    database: Database, options: OidcOptions | None
) -> AsyncGenerator["Tokens | None", None]:
    """Open what verifies an identity provider's tokens; None without a provider."""
    if options is None:
        yield None
        return
    # Imported only with a provider, as HTTPX and PyJWT take a twentieth of the start-up time.
    from infrawatch.access.login.issuer import Issuer  # noqa: PLC0415
    from infrawatch.access.login.tokens import Tokens  # noqa: PLC0415

    async with Issuer.open(options) as issuer:
        yield Tokens(database, issuer)
