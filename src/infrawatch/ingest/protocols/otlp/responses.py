"""Responses as OTLP messages, in the encoding of the request.

Source: OTLP specification, "OTLP/HTTP Response".
"""

from typing import Literal

from fastapi import Request
from fastapi.responses import Response
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.bodies import media_type_of
from infrawatch.ingest.intake import Outcome
from infrawatch.ingest.protocols.otlp.decode import Metrics
from infrawatch.ingest.protocols.otlp.wire import Message
from infrawatch.ingest.verdicts import Verdicts, counted
from infrawatch.problems import headers_of

Encoding = Literal["application/x-protobuf", "application/json"]

_MAX_MESSAGE_CHARACTERS = 4_000
"""As much as a developer reads in a log; senders log the message with every request."""

_INVALID_ARGUMENT, _UNAVAILABLE = 3, 14
_CODES = {401: 16, 403: 7, 404: 5, 413: 8, 429: 8}
"""HTTP status → gRPC status (google.rpc.Code); any other error of the sender is 3."""


def encoding_of(request: Request) -> Encoding | None:
    """The encoding of a request by its Content-Type; None if it is not one of OTLP's."""
    match media_type_of(request):
        case "application/x-protobuf":
            return "application/x-protobuf"
        case "application/json":
            return "application/json"
        case _:
            return None


def stored(metrics: Metrics, outcome: Outcome, encoding: Encoding) -> Response:
    """Convert an outcome to a response, which is empty if everything was stored.

    A `partial_success` with no rejected data points is a warning.
    """
    answer = ExportMetricsServiceResponse()
    rejected = metrics.count_rejected_points(outcome.kept)
    said = [*_explain(outcome.verdicts), *metrics.warnings]
    if rejected:
        said.insert(0, f"{rejected} of {metrics.point_count} data points were refused")
    if said:
        answer.partial_success.rejected_data_points = rejected
        answer.partial_success.error_message = "; ".join(said)[:_MAX_MESSAGE_CHARACTERS]
    return _encode(answer, encoding, 200)


def failed(request: Request, error: InfraWatchError) -> Response:
    """Convert an error to a `google.rpc.Status`: nothing of the request was stored."""
    code = _UNAVAILABLE if error.retryable else _CODES.get(error.status, _INVALID_ARGUMENT)
    status = _Status(code=code, message=f"{error.code}: {error}")
    response = _encode(status, encoding_of(request) or "application/json", error.status)
    response.headers.update(headers_of(error))
    return response


def _explain(verdicts: Verdicts) -> list[str]:
    """List each reason once, with its number of samples and the location of its first verdict."""
    firsts = {verdict.code: verdict for verdict in reversed(verdicts.shown)}
    return [
        f"{code} ({counted(samples, 'sample')})"
        + (f": {first.detail}, first {first.locator}" if (first := firsts.get(code)) else "")
        for code, samples in verdicts.samples_by_code.items()
    ]


def _encode(message: Message, encoding: Encoding, status: int) -> Response:
    is_json = encoding == "application/json"
    content = MessageToJson(message, indent=None) if is_json else message.SerializeToString()
    return Response(content, status, media_type=encoding)


def _status_class() -> Message:
    """Create `google.rpc.Status` (google/rpc/status.proto) with the two fields that OTLP needs."""
    types = {"code": FieldDescriptorProto.TYPE_INT32, "message": FieldDescriptorProto.TYPE_STRING}
    fields = [
        FieldDescriptorProto(
            name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
        for number, (name, kind) in enumerate(types.items(), start=1)
    ]
    pool = DescriptorPool()
    file = FileDescriptorProto(
        name="google/rpc/status.proto",
        package="google.rpc",
        syntax="proto3",
        message_type=[DescriptorProto(name="Status", field=fields)],
    )
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))


_Status = _status_class()
