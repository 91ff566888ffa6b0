"""/v1/keys and /v1/audit for administrators; /v1/live/tickets for pages."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request

from infrawatch.access.access import Access
from infrawatch.access.keys.changes import KeySpec, create_key, revoke_key
from infrawatch.access.login.tickets import LIFE
from infrawatch.access.needs import MayAdministrate, MayRead, TheDatabase
from infrawatch.access.parameters import OwnRouter
from infrawatch.access.principal import Principal
from infrawatch.access.requests.small_bodies import SmallBodyRoute
from infrawatch.access.routes import schemas
from infrawatch.durations import parse_duration
from infrawatch.errors import Forbidden, InvalidInput
from infrawatch.model.timerange import from_us, now_us, parse_time
from infrawatch.problems import ParameterProblem, Problem, problem_response
from infrawatch.store.accounts.audit import AuditRepository
from infrawatch.store.accounts.keys import KeyRepository
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.database import Database

MAX_PAGE_ENTRIES = 1_000

_INVALID = problem_response("A field or parameter does not fit.", Problem, ParameterProblem)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    503: problem_response("Try again after `Retry-After` seconds."),
}

router = OwnRouter(prefix="/v1", tags=["access"], responses=_RESPONSES, route_class=SmallBodyRoute)


@router.get("/keys")
async def list_keys(principal: MayAdministrate, database: TheDatabase) -> schemas.Keys:
    """List the keys of your tenant, also revoked and expired ones; operators see all tenants."""
    async with database.reading() as connection:
        found = await KeyRepository(connection).list(_only_own(principal))
    return schemas.Keys(
        keys=[
            schemas.KeyOut(**{name: getattr(key, name) for name in schemas.KeyOut.model_fields})
            for key in found
        ]
    )


@router.post(
    "/keys",
    status_code=201,
    responses={404: problem_response("There is no such tenant."), 422: _INVALID},
)
async def post_key(
    key_in: schemas.KeyIn, principal: MayAdministrate, database: TheDatabase
) -> schemas.KeyCreated:
    """Create a key. Its secret is shown in this answer only; it is valid at once."""
    expires_at = _to_expiry(key_in.expires_in)
    tenant_id = await _tenant_meant(principal, key_in.tenant, database)
    spec = KeySpec(tenant_id, key_in.name, list(dict.fromkeys(key_in.scopes)), expires_at)
    key = await create_key(database, spec, principal.actor)
    return schemas.KeyCreated(id=key.id, key=key.text)


@router.delete("/keys/{key_id}", status_code=204)
async def delete_key(
    principal: MayAdministrate,
    database: TheDatabase,
    key_id: Annotated[str, Path(pattern=r"^[a-z0-9]{4,32}$")],
) -> None:
    """Revoke a key: every server refuses it within about two seconds, and closes its live views.

    Revoking a key again has no effect.
    """
    await revoke_key(database, key_id, principal.actor, tenant_id=_only_own(principal))


@router.get("/audit", responses={422: _INVALID})
async def list_audit(
    principal: MayAdministrate,
    database: TheDatabase,
    before: Annotated[
        str, Query(max_length=100, description="`next_before` of the page before; any time.")
    ] = "now",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ENTRIES)] = 100,
) -> schemas.AuditPage:
    """List the audit trail of your tenant, newest first; operators see all tenants."""
    async with database.reading() as connection:
        found = await AuditRepository(connection).list(
            _only_own(principal),
            before=from_us(parse_time(before, now=now_us())),
            limit=limit + 1,
        )
    page = found[:limit]
    return schemas.AuditPage(
        entries=[
            schemas.AuditEntryOut(**{**entry._asdict(), "detail": dict(entry.detail)})
            for entry in page
        ],
        next_before=page[-1].at if len(found) > limit else None,
    )


@router.post("/live/tickets", status_code=201)
async def create_ticket(request: Request, principal: MayRead) -> schemas.Ticket:
    """Create a ticket for `WS /v1/live`: valid once, for a minute, on any server.

    A page offers it as a subprotocol, as it cannot send a header with a WebSocket:
    `new WebSocket(url, ["infrawatch.v1", "ticket." + ticket])`.
    """
    access: Access = request.state.access
    ticket = await access.tickets.give(principal)
    return schemas.Ticket(ticket=ticket, expires_in_s=int(LIFE.total_seconds()))


def _only_own(principal: Principal) -> int | None:
    return None if principal.is_operator else principal.tenant_id


def _to_expiry(expires_in: str | None) -> datetime | None:
    if expires_in is None:
        return None
    try:
        return datetime.now(UTC) + parse_duration(expires_in)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"expires_in: {error}") from None


async def _tenant_meant(principal: Principal, name: str | None, database: Database) -> int:
    if name is None:
        return principal.tenant_id
    if not principal.is_operator:
        raise Forbidden("only operators, administrators of the tenant default, may name a tenant")
    async with database.reading() as connection:
        return (await TenantRepository(connection).get(name)).id
