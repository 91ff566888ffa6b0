"""POST /api/v1/write: Prometheus remote write, 1.0 and 2.0.

Sources: "Prometheus Remote-Write 1.0 specification"; "Prometheus Remote-Write 2.0 specification",
2.0-rc.4.
"""

from functools import lru_cache, partial
from typing import NamedTuple, Protocol

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from infrawatch.access.needs import MayWrite
from infrawatch.access.requests.headers import find_header
from infrawatch.errors import InfraWatchError, UnsupportedContent
from infrawatch.ingest.bodies import read_body, read_snappy_body
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.intake import WriteOptions
from infrawatch.ingest.protocols import plain_text
from infrawatch.ingest.protocols.remote_write import version1, version2
from infrawatch.ingest.protocols.remote_write.batch import Batch
from infrawatch.ingest.protocols.remote_write.classic import to_classics
from infrawatch.ingest.protocols.remote_write.layouts import (
    Inflated,
    WireFormat,
    learner,
    read_by_layout,
)
from infrawatch.ingest.routing import foreign_route, intake_of

_MEDIA_TYPE = "application/x-protobuf"

_FIRST, _SECOND = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"


class Decode(Protocol):
    """The decoder of one version."""

    def __call__(self, body: bytes, find: Find, *, on_loop: bool = False) -> Batch: ...


class _Version(NamedTuple):
    format: str
    decode: Decode
    wire_format: WireFormat
    reports_written: bool


_VERSIONS = {
    _FIRST: _Version(
        "remote_write_1", version1.decode, version1.WIRE_FORMAT, reports_written=False
    ),
    _SECOND: _Version(
        "remote_write_2", version2.decode, version2.WIRE_FORMAT, reports_written=True
    ),
}
"""Versions by message name, which is the `proto` parameter of the Content-Type."""


class _Written(NamedTuple):
    """The parts of a request that are on disk; exemplars are never stored."""

    samples: int = 0
    histograms: int = 0

    def to_headers(self, version: _Version) -> dict[str, str]:
        """The headers that 2.0 requires on every response, once the version is agreed on."""
        if not version.reports_written:
            return {}
        counts = {"Samples": self.samples, "Histograms": self.histograms, "Exemplars": 0}
        return {f"X-Prometheus-Remote-Write-{of}-Written": str(n) for of, n in counts.items()}


def _failed(request: Request, error: InfraWatchError) -> Response:
    response = plain_text.failed(request, error)
    version = _find_version(request)
    if version is not None and not isinstance(error, UnsupportedContent):
        response.headers.update(_Written().to_headers(version))
    return response


router = APIRouter(route_class=foreign_route(_failed), tags=["ingest"])

_BODY = {
    "requestBody": {
        "required": True,
        "description": "Compressed with snappy (block format) or zstd.",
        "content": {
            f"{_MEDIA_TYPE};proto={message}": {"schema": {"type": "string", "format": "binary"}}
            for message in _VERSIONS
        },
    }
}


@router.post(
    "/api/v1/write",
    status_code=204,
    response_class=Response,
    responses=plain_text.RESPONSES,
    openapi_extra=_BODY,
)
async def write(request: Request, principal: MayWrite) -> Response:
    """Store samples sent by Prometheus, vmagent and others with remote write 1.0 or 2.0.

    Values are stored bit for bit, including stale markers. Native histograms are stored as classic
    ones. Metadata is stored; start timestamps are accepted but ignored; exemplars are not stored.
    The valid part of a request is stored even if the rest is refused; retrying is always safe.
    """
    version = _find_version(request)
    if version is None:
        raise UnsupportedContent(
            f"remote write is {_MEDIA_TYPE}, with proto={' or '.join(_VERSIONS)} or without"
        )
    body = await _read(request)
    intake = intake_of(request)
    layouts = intake.layouts(principal, version.format)
    batch = read_by_layout(body, layouts, version.wire_format)
    if batch is None:
        body = bytes(body)
        read = partial(version.decode, find=intake.finder(principal, version.format))
        batch = await intake.offload.read(principal.tenant_id, read, body)
        batch.decoded.learn = learner(body, batch, layouts, version.wire_format)
    outcomes = [await intake.take(batch.decoded, principal, version.format, WriteOptions())]
    written = _Written(samples=outcomes[0].accepted)
    if batch.has_histograms:
        decoded, lasts = await intake.offload.run(principal.tenant_id, to_classics, batch)
        outcome = await intake.take(
            decoded, principal, f"{version.format}_histograms", WriteOptions()
        )
        stored = len(lasts) if outcome.kept is None else np.count_nonzero(outcome.kept[lasts])
        outcomes.append(outcome)
        written = written._replace(histograms=int(stored))
    return plain_text.stored(outcomes, written.to_headers(version))


def _find_version(request: Request) -> _Version | None:
    """The version that a request declares; 1.0 if it declares none."""
    return _to_version(find_header(request.scope, b"content-type", _MEDIA_TYPE))


@lru_cache(maxsize=64)  # there are only a few, but senders may write them as they like
def _to_version(content_type: str) -> _Version | None:
    kind, *parameters = content_type.split(";")
    named = {
        name.strip().lower(): value
        for name, _, value in (parameter.partition("=") for parameter in parameters)
    }
    is_ours = kind.strip().lower() == _MEDIA_TYPE
    return _VERSIONS.get(named.get("proto", _FIRST).strip(' "')) if is_ours else None


async def _read(request: Request) -> Inflated:
    encoding = find_header(request.scope, b"content-encoding", "snappy").strip().lower()
    if encoding not in ("snappy", "zstd"):
        raise UnsupportedContent(
            f"Content-Encoding {encoding[:50]!r} is not read here: use snappy (its block format, "
            "without framing) or zstd"
        )
    max_bytes: int = request.scope["state"]["max_body_bytes"]
    if encoding == "snappy":
        return await read_snappy_body(request, max_bytes=max_bytes)
    return await read_body(request, max_bytes=max_bytes)
