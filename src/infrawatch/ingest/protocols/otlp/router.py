"""POST /v1/metrics: OTLP over HTTP; traces and logs are refused with instructions."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from infrawatch.access.needs import MayWrite
from infrawatch.errors import NotFound, UnsupportedContent
from infrawatch.ingest.bodies import read_body
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.intake import WriteOptions
from infrawatch.ingest.protocols.otlp.decode import Metrics, decode
from infrawatch.ingest.protocols.otlp.json_form import to_protobuf
from infrawatch.ingest.protocols.otlp.openapi import BODY, ONLY_METRICS, RESPONSES
from infrawatch.ingest.protocols.otlp.responses import (
    Encoding,
    encoding_of,
    failed,
    stored,
)
from infrawatch.ingest.routing import foreign_route, intake_of
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.problems import to_response

router = APIRouter(prefix="/v1", route_class=foreign_route(failed), tags=["ingest"])

FORMAT = "otlp"

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The maximum that OpenTelemetry's SDKs send; INFRAWATCH_MAX_BODY_BYTES may raise the limit."""

_JSON_OFF_LOOP_BYTES = 16 * 1024
"""Converting JSON of this size to protobuf takes two milliseconds; more is read in a thread."""

_HOW_TO_SEND_METRICS = (
    "only metrics are taken here: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT to this server's "
    "/v1/metrics instead of OTEL_EXPORTER_OTLP_ENDPOINT, and OTEL_TRACES_EXPORTER and "
    "OTEL_LOGS_EXPORTER to none or to who takes them"
)


@router.post("/metrics", responses=RESPONSES, response_model=None, openapi_extra=BODY)
async def write_metrics(request: Request, principal: MayWrite) -> Response:
    """Store OpenTelemetry metrics.

    Names are translated as by Prometheus' default settings: `http.server.duration` in `s` becomes
    `http_server_duration_seconds`. The response is sent after the commit; retrying is always safe.
    Data points that cannot be stored are counted and explained in the response; all others are
    stored.
    """
    encoding = encoding_of(request)
    if encoding is None:
        raise UnsupportedContent(
            "this Content-Type is not read here: use application/x-protobuf or application/json"
        )
    max_bytes = max(MAX_BODY_BYTES, request.state.max_body_bytes)
    body = await read_body(request, max_bytes=max_bytes)
    intake = intake_of(request)
    find = intake.finder(principal, FORMAT)
    # `find` only reads dicts, so it may be called from a thread.
    read = partial(_read, encoding=encoding, find=find)
    metrics = await intake.offload.read(principal.tenant_id, read, body)
    outcome = await intake.take(metrics, principal, FORMAT, WriteOptions())
    return stored(metrics, outcome, encoding)


@router.post("/traces", status_code=404, response_class=Response, responses=ONLY_METRICS)
@router.post("/logs", status_code=404, response_class=Response, responses=ONLY_METRICS)
async def refuse_signal(_principal: MayWrite) -> Response:
    """Refuse traces and logs, which are not supported; send metrics to `/v1/metrics`."""
    return to_response(NotFound(_HOW_TO_SEND_METRICS))


def _read(body: bytes, encoding: Encoding, find: Find, *, on_loop: bool = False) -> Metrics:
    if encoding == "application/json":
        check_budget(on_loop=on_loop, is_long=len(body) > _JSON_OFF_LOOP_BYTES)
        body = to_protobuf(body)
    return decode(body, find, on_loop=on_loop)
