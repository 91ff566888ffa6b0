"""POST /v1/exposition, and its counterpart for Pushgateway clients."""

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
from infrawatch.ingest.bodies import media_type_of, read_body
from infrawatch.ingest.intake import Outcome, WriteOptions
from infrawatch.ingest.protocols import plain_text
from infrawatch.ingest.protocols.exposition import openmetrics
from infrawatch.ingest.protocols.exposition.decode import decode
from infrawatch.ingest.protocols.extra_labels import ExtraLabels, read_extra_labels
from infrawatch.ingest.routing import foreign_route, intake_of
from infrawatch.model.timerange import now_us

FORMAT = "exposition"

_CONTENT_TYPES = (
    *("", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream"),
    openmetrics.MEDIA_TYPE,
)
"""The text format's own type, none, curl's default types for request bodies, and OpenMetrics."""

_BASE64 = "@base64"

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": "# TYPE backup_age_seconds gauge\n"
                'backup_age_seconds{database="shop"} 3600\n',
            },
            openmetrics.MEDIA_TYPE: {
                "schema": {"type": "string"},
                "example": "# TYPE backups counter\nbackups_total 12\n# EOF\n",
            },
        },
    }
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    **plain_text.RESPONSES,
    422: {
        "description": "The labels in the path are malformed.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}
_PUSHED = {
    200 if status == HTTPStatus.NO_CONTENT else status: _RESPONSES[status] for status in _RESPONSES
}

router = APIRouter(route_class=foreign_route(plain_text.failed), tags=["ingest"])


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
    """Store metrics in the Prometheus text format, or in OpenMetrics if `Content-Type` says so.

    Samples without a time get the current time.

    The format has no label for the origin of its metrics, so add one:
    `?extra_label=instance=web-1`. Valid lines are stored even if others are refused.
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
    """Store metrics pushed by a Pushgateway client; the labels in the path apply to every series.

    Configure the client with this server's address followed by `/v1/exposition`. Every push adds
    samples at its time: nothing is replaced, and nothing has to be deleted.
    """
    labels = read_grouping(grouping)
    answer = plain_text.stored([await _write(request, principal, labels)])
    if answer.status_code == HTTPStatus.NO_CONTENT:
        answer.status_code = HTTPStatus.OK  # the Go client treats 204 as a failure
    return answer


def read_grouping(path: str) -> Mapping[str, str]:
    """Read `job/backup/instance/db-1`; a value after `name@base64` is URL-safe base64.

    Source: Prometheus Pushgateway, README, "API".

    Raises:
        InvalidInput: it does not begin with a job, is not pairs of names and values, or a value
            is not valid base64.
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
    media_type = media_type_of(request)
    if media_type not in _CONTENT_TYPES:
        raise UnsupportedContent(
            f"Content-Type {media_type[:50]!r} is not read here: send the text format, "
            f"text/plain, or {openmetrics.MEDIA_TYPE} (the Go client's Pusher: "
            ".Format(expfmt.NewFormat(expfmt.TypeTextPlain)))"
        )
    body = await read_body(request, max_bytes=request.state.max_body_bytes)
    intake = intake_of(request)
    read = partial(
        decode,
        now_ms=now_us() // 1000,
        extra_labels=labels,
        is_openmetrics=media_type == openmetrics.MEDIA_TYPE,
    )
    decoded = await intake.offload.read(principal.tenant_id, read, body)
    return await intake.take(decoded, principal, FORMAT, WriteOptions())
