"""How to reach an identity provider, and what its claims mean here (OpenID Connect)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcOptions:
    """The identity provider, and how its claims map to tenants and scopes.

    `audience` is that of tokens sent by programs; None disables such tokens. `roles` maps values
    of `role_claim` to scopes; `*` matches everyone. Without `tenant_claim`, everyone belongs to
    `tenant`.
    """

    issuer: str
    client_id: str
    client_secret_file: Path | None
    audience: str | None
    algorithms: Sequence[str]
    name: str
    scopes: str
    role_claim: str
    roles: Mapping[str, str]
    tenant_claim: str | None
    tenant: str
