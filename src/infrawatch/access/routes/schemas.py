"""Request and response models of keys, the audit trail, tickets and sessions."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from infrawatch.access.principal import Scope

MAX_NAME_CHARACTERS = 100

NAME_PATTERN = r"^[\w.:@/+-](?:[\w .:@/+-]*[\w.:@/+-])?$"

Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS, pattern=NAME_PATTERN)]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=3)]


class Wire(BaseModel):
    """Base of models on the wire: frozen, and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KeyIn(Wire):
    """A key to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "agent of web-1", "scopes": ["write"], "expires_in": "90d"}]
        }
    )

    name: Name
    scopes: Scopes
    tenant: Annotated[
        Name | None, Field(description="Another tenant than yours; for operators.")
    ] = None
    expires_in: Annotated[
        str | None, Field(max_length=50, description="`90d`; without it, never.")
    ] = None


class KeyOut(Wire):
    """A key without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="To the minute; null for never.")]


class Keys(Wire):
    keys: list[KeyOut]


class KeyCreated(Wire):
    id: str
    key: Annotated[str, Field(description="Shown only once.")]


class AuditEntryOut(Wire):
    at: datetime
    tenant: str
    actor: str
    actor_key_id: str | None
    action: Annotated[str, Field(examples=["key.created"])]
    target: str
    detail: dict[str, object]


class AuditPage(Wire):
    """Newest first."""

    entries: list[AuditEntryOut]
    next_before: Annotated[datetime | None, Field(description="Pass it on as `before`.")]


class Ticket(Wire):
    ticket: Annotated[
        str, Field(description="Offer the subprotocols `infrawatch.v1` and `ticket.<ticket>`.")
    ]
    expires_in_s: int


class SessionIn(Wire):
    password: Annotated[
        str | None,
        Field(max_length=1_000, description="Without it, bring a key or token in a header."),
    ] = None


class UserOut(Wire):
    """The authenticated caller."""

    name: str
    tenant: str
    scopes: list[str]
    is_signed_in: Annotated[bool, Field(description="By a session, not by a key of its own.")]
    until: Annotated[datetime | None, Field(description="When the session ends by itself.")]


class WaysOut(Wire):
    """The ways to sign in besides an API key, which always works."""

    password: bool
    oidc: Annotated[str | None, Field(description="The name of the identity provider.")]


class SessionOut(Wire):
    authentication: Literal["required", "off"]
    user: Annotated[UserOut | None, Field(description="Null when nobody is signed in.")]
    ways: WaysOut
