"""POST /v1/exposition, and the same for clients of the Pushgateway."""

import base64
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from infrawatch.access.needs import MayWrite
from infrawatch.access.principal import Principal
from infrawatch.errors import InvalidInput, UnsupportedContent
from infrawatch.ingest.bodies import read_body
from infrawatch.ingest.endpoint import answering_with, intake_of
from infrawatch.ingest.intake import Outcome, WriteOptions
from infrawatch.ingest.protocols import plain_text
from infrawatch.ingest.protocols.exposition.reading import decode
from infrawatch.ingest.protocols.extra_labels import ExtraLabels, read_extra_labels
from infrawatch.model.timerange import now_us

FORMAT = "exposition"

_CONTENT_TYPES = ("", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream")
"""The format's own, none, and what curl says of a body it knows nothing about."""

_BASE64 = "@base64"

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": "# TYPE backup_age_seconds gauge\n"
                'backup_age_seconds{database="shop"} 3600\n',
            }
        },
    }
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    **plain_text.RESPONSES,
    422: {
        "description": "The labels in the address are not written as they should be.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}
_PUSHED = {
    200 if status == HTTPStatus.NO_CONTENT else status: _RESPONSES[status] for status in _RESPONSES
}

router = APIRouter(route_class=answering_with(plain_text.failed), tags=["ingest"])


@router.post(
    "/v1/exposition",
    status_code=204,
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_BODY,
)
async def write_exposition(
    request: Request,
    principal: MayWrite,
    extra_label: ExtraLabels = (),
) -> Response:
    """Store the Prometheus text format; samples without a time are of this moment.

    A page has no label that says where it is from, so give one: `?extra_label=instance=web-1`.
    The good lines of a bad body are stored.
    """
    labels = read_extra_labels(extra_label)
    return plain_text.stored([await _write(request, principal, labels)])


@router.put(
    "/v1/exposition/metrics/{grouping:path}",
    response_class=Response,
    responses=_PUSHED,
    openapi_extra=_BODY,
)
@router.post(
    "/v1/exposition/metrics/{grouping:path}",
    response_class=Response,
    responses=_PUSHED,
    openapi_extra=_BODY,
)
async def push_exposition(
    request: Request,
    principal: MayWrite,
    grouping: Annotated[str, Path(examples=["job/backup/instance/db-1"])],
) -> Response:
    """Store what a client of the Pushgateway pushes; the labels in the path go on every series.

    Give such a client the address of this server and `/v1/exposition`. Every push is a sample at
    its time: nothing is replaced, and nothing is left to be deleted.
    """
    labels = read_grouping(grouping)
    answer = plain_text.stored([await _write(request, principal, labels)])
    if answer.status_code == HTTPStatus.NO_CONTENT:
        answer.status_code = HTTPStatus.OK  # the Go client takes 204 for a failure
    return answer


def read_grouping(path: str) -> Mapping[str, str]:
    """Read `job/backup/instance/db-1`; a value after `name@base64` is base64, URL-safe.

    Source: Prometheus Pushgateway, README, "API".

    Raises:
        InvalidInput: it does not begin with a job, or is not made of names and values.
    """
    parts = path.split("/")
    names, values = parts[::2], parts[1::2]
    if len(names) != len(values) or names[0].removesuffix(_BASE64) != "job":
        raise InvalidInput(
            "the path is written job/<job>, then /<label>/<value> any number of times"
        )
    return {
        name.removesuffix(_BASE64): _from_base64(value) if name.endswith(_BASE64) else value
        for name, value in zip(names, values, strict=True)
    }


def _from_base64(value: str) -> str:
    digits = value.rstrip("=")  # an empty value is written `=`
    padded = digits + "=" * (-len(digits) % 4)
    try:
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidInput(f"{value[:50]!r} in the path is not base64 of UTF-8") from None


async def _write(request: Request, principal: Principal, labels: Mapping[str, str]) -> Outcome:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _CONTENT_TYPES:
        raise UnsupportedContent(
            f"Content-Type {content_type[:50]!r} is not read here: send the text format, text/plain"
        )
    body = await read_body(request, max_bytes=request.state.max_body_bytes)
    intake = intake_of(request)
    read = partial(decode, now_ms=now_us() // 1000, extra_labels=labels)
    decoded = await intake.offload.read(principal.tenant_id, read, body)
    return await intake.take(decoded, principal, FORMAT, WriteOptions())
