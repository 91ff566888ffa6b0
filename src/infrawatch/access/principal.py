"""The caller: every route takes a `Principal`, every store call carries its tenant."""

from datetime import datetime
from typing import Literal, NamedTuple, get_args

from typing_extensions import override

from infrawatch.store.accounts.audit import Actor

DEFAULT_TENANT_ID = 1
"""The tenant of a fresh installation; the migration creates it under this id."""

Scope = Literal["write", "read", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
"""No scope includes another: `admin` by itself permits neither writing nor reading."""


class Principal(NamedTuple):
    """The identity on whose behalf a request is made, and its scopes.

    `key_id` is the API key and `session_id` the session that authenticated it, if there was one.
    `good_until` is when the credential expires, if it does.
    """

    tenant_id: int
    name: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    session_id: str | None = None
    good_until: datetime | None = None

    @property
    def is_operator(self) -> bool:
        """Whether the principal runs this installation, as administrator of the default tenant."""
        return self.tenant_id == DEFAULT_TENANT_ID and "admin" in self.scopes

    @property
    def actor(self) -> Actor:
        """The principal as the audit trail names it."""
        return Actor(self.name, self.key_id)

    @override
    def __str__(self) -> str:
        """Return a name for people, in logs and messages."""
        return str(self.actor)


EVERYBODY = Principal(DEFAULT_TENANT_ID, "everybody", frozenset(SCOPES))
"""The principal of all requests while authentication is off."""
