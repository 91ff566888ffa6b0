"""/v1/limits: the limits of tenants and keys, for administrators."""

from typing import Annotated

from fastapi import Query
from pydantic import ConfigDict, Field

from infrawatch.access.limits.changes import put_limits, remove_limits
from infrawatch.access.needs import MayAdministrate, TheDatabase
from infrawatch.access.parameters import OwnRouter
from infrawatch.access.principal import Principal
from infrawatch.access.requests.small_bodies import SmallBodyRoute
from infrawatch.access.routes.schemas import Name, Wire
from infrawatch.errors import Forbidden
from infrawatch.problems import ParameterProblem, Problem, problem_response
from infrawatch.store.accounts.limits import Holder, LimitRepository, Limits
from infrawatch.store.accounts.tenants import TenantRepository
from infrawatch.store.database import Database

_INT32, _INT64 = 2**31, 2**63

KeyId = Annotated[str | None, Field(pattern=r"^[a-z0-9]{4,32}$", description="One key; else all.")]
Rate = Annotated[float | None, Field(ge=1e-3, le=1e9)]


class LimitsIn(Wire):
    """All limits of a tenant or key; a field that is left out means no limit."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"tenant": "default", "samples_per_s": 50_000, "active_series": 100_000}]
        }
    )

    tenant: Annotated[Name | None, Field(description="Yours if left out.")] = None
    key_id: KeyId = None
    requests_per_s: Rate = None
    samples_per_s: Rate = None
    active_series: Annotated[
        int | None, Field(ge=0, lt=_INT64, description="Of the tenant; not for a key.")
    ] = None
    live_connections: Annotated[
        int | None,
        Field(ge=0, lt=_INT32, description="To all servers together; without Redis, to each."),
    ] = None
    query_samples: Annotated[int | None, Field(gt=0, lt=_INT64)] = None
    query_series: Annotated[int | None, Field(gt=0, lt=_INT64)] = None


class LimitsOut(LimitsIn):
    tenant: str


class AllLimits(Wire):
    limits: list[LimitsOut]


router = OwnRouter(
    prefix="/v1/limits",
    tags=["access"],
    route_class=SmallBodyRoute,
    responses={
        404: problem_response("There is no such tenant, key or limit."),
        422: problem_response("A field or parameter does not fit.", Problem, ParameterProblem),
        503: problem_response("Try again after `Retry-After` seconds."),
    },
)


@router.get("")
async def list_limits(principal: MayAdministrate, database: TheDatabase) -> AllLimits:
    """List the limits of your tenant and its keys; operators see those of all tenants."""
    only = None if principal.is_operator else principal.tenant_id
    async with database.reading() as connection:
        found = await LimitRepository(connection).list(only)
    return AllLimits(
        limits=[
            LimitsOut(tenant=one.tenant, key_id=one.holder.key_id, **one.limits._asdict())
            for one in found
        ]
    )


@router.put("", status_code=204)
async def set_limits(
    limits_in: LimitsIn, principal: MayAdministrate, database: TheDatabase
) -> None:
    """Replace the limits of a tenant or key, on every server within about a second.

    Operators can set limits for any tenant, other administrators for keys of their own tenant.
    """
    holder = await _holder(principal, limits_in.tenant, limits_in.key_id, database)
    limits = Limits(**{name: getattr(limits_in, name) for name in Limits._fields})
    await put_limits(database, holder, limits, principal.actor)


@router.delete("", status_code=204)
async def delete_limits(
    principal: MayAdministrate,
    database: TheDatabase,
    tenant: Annotated[Name | None, Query()] = None,
    key_id: Annotated[KeyId, Query()] = None,
) -> None:
    """Remove the limits of a tenant or key."""
    holder = await _holder(principal, tenant, key_id, database)
    await remove_limits(database, holder, principal.actor)


async def _holder(
    principal: Principal, tenant: str | None, key_id: str | None, database: Database
) -> Holder:
    if not principal.is_operator and (tenant is not None or key_id is None):
        raise Forbidden(
            "only operators, administrators of the tenant default, limit tenants: name a key_id"
        )
    if tenant is None:
        return Holder(principal.tenant_id, key_id)
    async with database.reading() as connection:
        return Holder((await TenantRepository(connection).get(tenant)).id, key_id)
