"""Who is asking: every route takes a `Principal`, every store call carries its tenant."""

from datetime import datetime
from typing import Literal, NamedTuple, get_args

from typing_extensions import override

DEFAULT_TENANT_ID = 1
"""The tenant a fresh install has; the migration creates it under this id."""

Scope = Literal["write", "read", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
"""None includes another: who may administrate can do the rest only if the key says so too."""


class Principal(NamedTuple):
    """On whose behalf a request is made, and what they may do.

    `key_id` names the API key that was brought, and `session_id` the session of somebody signed in;
    None if it was something else. `good_until` is when what was brought ends by itself.
    """

    tenant_id: int
    name: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    session_id: str | None = None
    good_until: datetime | None = None

    @property
    def is_operator(self) -> bool:
        """Whether they run this installation: administrators of the tenant it came with do."""
        return self.tenant_id == DEFAULT_TENANT_ID and "admin" in self.scopes

    @override
    def __str__(self) -> str:
        """For people: in the audit trail and in logs."""
        return self.name if self.key_id is None else f"{self.name} ({self.key_id})"


EVERYBODY = Principal(DEFAULT_TENANT_ID, "everybody", frozenset(SCOPES))
"""Who asks while authentication is off."""
