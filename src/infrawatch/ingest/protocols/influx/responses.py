"""Responses to writes in line protocol, in the format of each API version."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import groupby
from typing import NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from infrawatch.errors import InfraWatchError, MalformedBody, Unauthenticated
from infrawatch.ingest.intake import Outcome
from infrawatch.ingest.verdicts import Verdict, Verdicts, counted
from infrawatch.problems import headers_of

_SHOWN_BYTES = 200
"""Maximum shown of a refused line: enough to find it, without returning a megabyte."""


class ErrorV1(BaseModel):
    """Telegraf drops a batch if `error` contains `partial write` or `unable to parse`."""

    error: str


class ErrorV2(BaseModel):
    code: str
    message: str
    line: int | None = None


class LineErrorV3(BaseModel):
    original_line: str
    line_number: int
    error_message: str


class ErrorV3(BaseModel):
    error: str
    data: list[LineErrorV3] | None = None


class RefusedLine(NamedTuple):
    """A line with refused fields or samples: its number from 1, its beginning, the reasons."""

    number: int
    text: str
    reasons: str
    is_malformed: bool


_CODES_V2 = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    413: "request too large",
    415: "unsupported media type",
    429: "too many requests",
    503: "unavailable",
}
"""Source: InfluxDB 2, errors of the platform (kit/platform/errors)."""


def stored() -> Response:
    """Everything is on disk; Telegraf treats any status other than 204 as a failure."""
    return Response(status_code=HTTPStatus.NO_CONTENT)


def refused_v1(outcome: Outcome, body: bytes) -> Response:
    lines = "\n".join(
        f"line {line.number}: unable to parse '{line.text}': {line.reasons}"
        if line.is_malformed
        else f"line {line.number}: {line.reasons}"
        for line in _refused_lines(outcome.verdicts, body)
    )
    dropped = outcome.verdicts.rejected_samples
    error = f"partial write: {lines}{_more(outcome.verdicts)} dropped={dropped}"
    return _to_response(400, ErrorV1(error=error))


def refused_v2(outcome: Outcome, body: bytes) -> Response:
    lines = list(_refused_lines(outcome.verdicts, body))
    message = (
        f"{counted(outcome.verdicts.rejected_samples, 'sample')} refused, "
        f"{outcome.accepted} stored: "
        + "; ".join(f"line {line.number}: {line.reasons}" for line in lines)
        + _more(outcome.verdicts)
    )
    return _to_response(400, ErrorV2(code="invalid", message=message, line=lines[0].number))


def refused_v3(outcome: Outcome, body: bytes, *, is_partial: bool) -> Response:
    error = (
        "partial write of line protocol occurred"
        if is_partial
        else "parsing failed for write_lp endpoint"
    )
    data = [
        LineErrorV3(original_line=line.text, line_number=line.number, error_message=line.reasons)
        for line in _refused_lines(outcome.verdicts, body)
    ]
    return _to_response(400, ErrorV3(error=error + _more(outcome.verdicts), data=data))


def failed_v1(_request: Request, error: InfraWatchError) -> Response:
    """Senders of version 1 drop a batch on 429, so an exhausted quota is a 503 for them."""
    is_quota = error.status == HTTPStatus.TOO_MANY_REQUESTS
    status = 503 if is_quota and not isinstance(error, Unauthenticated) else _to_status(error)
    text = f"unable to parse: {error}" if isinstance(error, MalformedBody) else str(error)
    return _to_response(status, ErrorV1(error=text), headers_of(error))


def failed_v2(_request: Request, error: InfraWatchError) -> Response:
    status = _to_status(error)
    code = _CODES_V2.get(status, "internal error")
    return _to_response(status, ErrorV2(code=code, message=str(error)), headers_of(error))


def failed_v3(_request: Request, error: InfraWatchError) -> Response:
    return _to_response(_to_status(error), ErrorV3(error=str(error)), headers_of(error))


def _to_status(error: InfraWatchError) -> int:
    """Map 422, which InfluxDB does not use for invalid requests, to 400."""
    return 400 if error.status == HTTPStatus.UNPROCESSABLE_ENTITY else error.status


def _to_response(
    status: int, error: BaseModel, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(error.model_dump(exclude_none=True), status, headers)


def _refused_lines(verdicts: Verdicts, body: bytes) -> Iterator[RefusedLine]:
    """Yield the lines of the verdicts that are shown, in order, each once."""
    lines = body.split(b"\n")
    for number, found in groupby(sorted(verdicts, key=_line_of), key=_line_of):
        on_line = list(found)
        text = lines[number - 1][:_SHOWN_BYTES].decode(errors="replace").rstrip("\r")
        reasons = dict.fromkeys(map(_to_reason, on_line))  # each reason once per line
        is_malformed = any(verdict.code == "malformed_line" for verdict in on_line)
        yield RefusedLine(number, text, "; ".join(reasons), is_malformed)


def _line_of(verdict: Verdict) -> int:
    return verdict.index


def _to_reason(verdict: Verdict) -> str:
    where = f"{verdict.locator}: " if verdict.locator else ""
    return f"{where}{verdict.detail} ({verdict.code})"


def _more(verdicts: Verdicts) -> str:
    left_out = verdicts.total - len(verdicts.shown)
    return f"; and {left_out} more errors" if left_out else ""
