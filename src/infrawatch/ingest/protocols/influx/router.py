"""POST /write, /api/v2/write and /api/v3/write_lp: line protocol, one route per version."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from infrawatch.access.needs import MayWrite
from infrawatch.access.principal import Principal
from infrawatch.ingest.bodies import read_body
from infrawatch.ingest.intake import Outcome, WriteOptions
from infrawatch.ingest.protocols.influx import preliminaries, responses
from infrawatch.ingest.protocols.influx.decode import decode
from infrawatch.ingest.routing import foreign_route, intake_of
from infrawatch.model.timerange import now_us

FORMAT = "influx"

PrecisionV1 = Literal["n", "ns", "u", "us", "µ", "ms", "s", "m", "h"]
PrecisionV2 = Literal["ns", "us", "ms", "s"]
PrecisionV3 = Literal[
    "auto", "nanosecond", "microsecond", "millisecond", "second", "ns", "us", "ms", "s"
]

_UNIT_NS = {
    **dict.fromkeys(("n", "ns", "nanosecond"), 1),
    **dict.fromkeys(("u", "us", "µ", "microsecond"), 10**3),
    **dict.fromkeys(("ms", "millisecond"), 10**6),
    **dict.fromkeys(("s", "second"), 10**9),
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}

v1 = APIRouter(route_class=foreign_route(responses.failed_v1), tags=["ingest"])
v2 = APIRouter(route_class=foreign_route(responses.failed_v2), tags=["ingest"])
v3 = APIRouter(route_class=foreign_route(responses.failed_v3), tags=["ingest"])


def _responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {
        204: {"description": "Every sample is stored, on disk."},
        400: {"model": model, "description": "The valid part is stored; the rest is named."},
        401: {"model": model, "description": "The key is missing or invalid."},
        403: {"model": model, "description": "The key lacks the scope `write`."},
        413: {"model": model, "description": "The body is too large; send it in parts."},
        415: {"model": model, "description": "The content encoding is not supported."},
        429: {"model": model, "description": "Too many wrong keys came from this address."},
        503: {"model": model, "description": "Try again after `Retry-After` seconds."},
    }


def _ignored(*names: str) -> list[dict[str, Any]]:
    """Describe parameters that are accepted but ignored: the key determines the tenant."""
    description = "Taken for compatibility; means nothing here."
    schema = {"type": "string"}
    return [
        {"name": name, "in": "query", "description": description, "schema": schema}
        for name in names
    ]


def _described(*ignored: str) -> dict[str, Any]:
    text = {"schema": {"type": "string"}, "example": "cpu,host=web-1 usage_idle=97.4,cores=8i\n"}
    return {
        "requestBody": {"required": True, "content": {"text/plain": text}},
        "parameters": _ignored(*ignored),
    }


@v1.post(
    "/write",
    status_code=204,
    response_class=Response,
    responses=_responses(responses.ErrorV1),
    openapi_extra=_described("db", "rp", "consistency"),
)
async def write_v1(
    request: Request,
    principal: MayWrite,
    precision: Annotated[PrecisionV1, Query(description="Unit of the times.")] = "ns",
) -> Response:
    """Store line protocol, compatible with InfluxDB 1.

    Each numeric or boolean field becomes a sample of the metric `measurement_field`, with the tags
    as labels: `cpu,host=web-1 usage_idle=97.4` is `cpu_usage_idle{host="web-1"}`. Integers beyond
    2^53 become the nearest float64; true is 1, false is 0. String fields are refused and named in
    the response; valid fields are stored. Lines without a time get the current time.
    """
    outcome, body = await _write(request, principal, _UNIT_NS[precision], WriteOptions())
    return responses.refused_v1(outcome, body) if outcome.verdicts else responses.stored()


@v2.post(
    "/api/v2/write",
    status_code=204,
    response_class=Response,
    responses=_responses(responses.ErrorV2),
    openapi_extra=_described("org", "orgID", "bucket"),
)
async def write_v2(
    request: Request,
    principal: MayWrite,
    precision: Annotated[PrecisionV2, Query(description="Unit of the times.")] = "ns",
) -> Response:
    """Store line protocol, compatible with InfluxDB 2; see `POST /write` for the mapping."""
    outcome, body = await _write(request, principal, _UNIT_NS[precision], WriteOptions())
    return responses.refused_v2(outcome, body) if outcome.verdicts else responses.stored()


@v3.post(
    "/api/v3/write_lp",
    status_code=204,
    response_class=Response,
    responses=_responses(responses.ErrorV3),
    openapi_extra=_described("db", "no_sync"),
)
async def write_v3(
    request: Request,
    principal: MayWrite,
    precision: Annotated[
        PrecisionV3, Query(description="Unit of the times; `auto` tells it by their magnitude.")
    ] = "auto",
    accept_partial: Annotated[  # noqa: FBT002
        bool, Query(description="Store the valid part of a bad batch.")
    ] = True,
) -> Response:
    """Store line protocol, compatible with InfluxDB 3; see `POST /write` for the mapping.

    The response is sent after the commit; `no_sync` is ignored.
    """
    unit_ns = None if precision == "auto" else _UNIT_NS[precision]
    options = WriteOptions(partial=accept_partial)
    outcome, body = await _write(request, principal, unit_ns, options)
    if outcome.verdicts:
        return responses.refused_v3(outcome, body, is_partial=accept_partial)
    return responses.stored()


async def _write(
    request: Request,
    principal: Principal,
    unit_ns: int | None,
    options: WriteOptions,
) -> tuple[Outcome, bytes]:
    body = await read_body(request, max_bytes=request.state.max_body_bytes)
    intake = intake_of(request)
    find, layouts = intake.finder(principal, FORMAT), intake.layouts(principal, FORMAT)
    read = partial(decode, unit_ns=unit_ns, now_ns=now_us() * 1000, find=find, layouts=layouts)
    decoded = await intake.offload.read(principal.tenant_id, read, body)
    return await intake.take(decoded, principal, FORMAT, options), body


router = APIRouter(
    routes=[route for version in (v1, v2, v3, preliminaries.router) for route in version.routes]
)
