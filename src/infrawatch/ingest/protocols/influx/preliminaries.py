"""Requests of Influx clients before they write: /ping, /health, and /query for their database."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from infrawatch.access.needs import MayWrite
from infrawatch.errors import InvalidInput
from infrawatch.ingest.bodies import read_body
from infrawatch.ingest.protocols.influx import responses
from infrawatch.ingest.routing import foreign_route

router = APIRouter(route_class=foreign_route(responses.failed_v1), tags=["ingest"])

VERSION = "1.8.10"
"""The InfluxDB version whose write API this is; clients compare it with their requirements."""

_MAX_QUERY_BYTES = 64 * 1024
_ABOUT_DATABASES = re.compile(r"\s*(?:create\s+database|show\s+databases)\b", re.IGNORECASE)

_FORM = {
    "requestBody": {
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "properties": {"q": {"type": "string"}}},
                "example": {"q": 'CREATE DATABASE "telegraf"'},
            }
        }
    }
}

_Statement = Annotated[
    str,
    Query(description='`CREATE DATABASE "…"` or `SHOW DATABASES`.', examples=["SHOW DATABASES"]),
]


class HealthCheck(BaseModel):
    """Health in the format of InfluxDB 2: this process responds; see `/readyz` for readiness."""

    name: Literal["infrawatch"] = "infrawatch"
    message: str = "ready for writes"
    status: Literal["pass"] = "pass"
    checks: list[str] = []
    version: str = VERSION


class StatementResult(BaseModel):
    statement_id: int = 0


class QueryResults(BaseModel):
    results: list[StatementResult] = [StatementResult()]


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": responses.ErrorV1, "description": "The statement is not one about databases."},
    401: {"model": responses.ErrorV1, "description": "The key is missing or invalid."},
    403: {"model": responses.ErrorV1, "description": "The key lacks the scope `write`."},
    413: {"model": responses.ErrorV1, "description": "The statement is too long."},
    415: {"model": responses.ErrorV1, "description": "The content encoding is not supported."},
    429: {"model": responses.ErrorV1, "description": "Too many wrong keys came from this address."},
}


@router.get("/ping", status_code=204, response_class=Response)
async def ping() -> Response:
    """Tell clients that this server accepts line protocol."""
    return Response(status_code=204, headers={"X-Influxdb-Version": VERSION})


@router.get("/health")
async def health() -> HealthCheck:
    """Tell clients of InfluxDB 2 that they may write."""
    return HealthCheck()


@router.get("/query", responses={status: _ERRORS[status] for status in (400, 401, 403, 429)})
async def query_databases(_principal: MayWrite, q: _Statement = "") -> QueryResults:
    """Confirm that a database exists; databases need not be created."""
    return _answer(q)


@router.post("/query", responses=_ERRORS, openapi_extra=_FORM)
async def create_database(
    request: Request, _principal: MayWrite, q: _Statement = ""
) -> QueryResults:
    """Confirm that a database exists, as Telegraf requests before it writes."""
    body = await read_body(request, max_bytes=_MAX_QUERY_BYTES)
    fields = parse_qs(body.decode(errors="replace"))
    return _answer(q or fields.get("q", [""])[0])


def _answer(statement: str) -> QueryResults:
    if not _ABOUT_DATABASES.match(statement):
        raise InvalidInput(
            "only CREATE DATABASE and SHOW DATABASES are understood here; "
            "GET /v1/range and /v1/samples answer questions about data"
        )
    return QueryResults()
