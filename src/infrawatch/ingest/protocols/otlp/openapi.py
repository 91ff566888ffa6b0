"""OpenAPI descriptions of requests and responses that the framework cannot derive."""

from typing import Any

from infrawatch.problems import MEDIA_TYPE


def _contents(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary", "description": description}
    return {
        "application/x-protobuf": {"schema": binary},
        "application/json": {"schema": {"type": "object", **schema}},
    }


def _failure(description: str) -> dict[str, Any]:
    properties = {"code": {"type": "integer"}, "message": {"type": "string"}}
    content = _contents("google.rpc.Status", {"properties": properties})
    return {"description": description, "content": content}


_PARTIAL_SUCCESS = {
    "type": "object",
    "properties": {
        "rejectedDataPoints": {"type": "string", "examples": ["2"]},
        "errorMessage": {"type": "string"},
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The valid part is stored; `partialSuccess` says what was refused, and why.",
        "content": _contents(
            "ExportMetricsServiceResponse", {"properties": {"partialSuccess": _PARTIAL_SUCCESS}}
        ),
    },
    400: _failure("The body cannot be read; nothing was stored."),
    401: _failure("The key is missing or invalid."),
    403: _failure("The key lacks the scope `write`."),
    413: _failure("The body is too large; send smaller batches."),
    415: _failure("The content type or encoding is not supported."),
    429: _failure("Too many wrong keys came from this address."),
    503: _failure("Try again after `Retry-After` seconds; it is always safe."),
}
ONLY_METRICS: dict[int | str, dict[str, Any]] = {
    404: {
        "description": "Always; `detail` says how to send metrics only.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
    **{status: RESPONSES[status] for status in (401, 403, 429)},
}
_REQUEST = _contents("ExportMetricsServiceRequest", {})
_REQUEST["application/json"]["examples"] = {"gauge": {"$ref": "#/components/examples/Otlp"}}
BODY = {"requestBody": {"required": True, "content": _REQUEST}}
