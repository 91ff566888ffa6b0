"""Tickets, with which a browser opens a WebSocket without a secret in the URL.

A page cannot send headers with a WebSocket, but it can name subprotocols: it requests a ticket
with its key, and offers `infrawatch.v1` and `ticket.<ticket>`.
"""

from datetime import timedelta
from secrets import token_urlsafe
from typing import cast

from starlette.requests import HTTPConnection

from infrawatch.access.keys.credentials import digest_of
from infrawatch.access.principal import Principal, Scope
from infrawatch.errors import Unauthenticated
from infrawatch.store.accounts.tickets import Bearer, TicketRepository
from infrawatch.store.database import Database

LIFE = timedelta(minutes=1)

_PREFIX = "ticket."


class Tickets:
    """Issues and redeems tickets; they are in PostgreSQL, so any server can redeem each once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(self, principal: Principal) -> str:
        """Return a ticket that authenticates a request as this principal, once, within a minute."""
        ticket = token_urlsafe(32)
        bearer = Bearer(**principal._asdict() | {"scopes": list(principal.scopes)})
        async with self._database.writing() as connection:
            await TicketRepository(connection).add(digest_of(ticket), bearer, LIFE)
        return ticket

    async def find_principal(self, connection: HTTPConnection) -> Principal | None:
        offered = connection.scope.get("subprotocols", ())
        ticket = next((protocol for protocol in offered if protocol.startswith(_PREFIX)), None)
        if ticket is None:
            return None
        digest = digest_of(ticket.removeprefix(_PREFIX))
        async with self._database.writing() as transaction:
            bearer = await TicketRepository(transaction).use(digest)
        if bearer is None:
            raise Unauthenticated(
                "this ticket is wrong, was used, or is older than a minute; POST "
                "/v1/live/tickets gives another",
                reason="wrong_ticket",
            )
        scopes = frozenset(cast("list[Scope]", bearer.scopes))
        return Principal(**bearer._asdict() | {"scopes": scopes})

    async def honours(self, principal: Principal) -> bool:  # noqa: ARG002
        """Return True: the authenticator of the underlying credential decides."""
        return True
