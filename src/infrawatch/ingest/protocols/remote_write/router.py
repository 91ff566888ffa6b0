"""POST /api/v1/write: Prometheus remote write, 1.0 and 2.0.

Sources: "Prometheus Remote-Write 1.0 specification"; "Prometheus Remote-Write 2.0 specification",
2.0-rc.4.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from infrawatch.access.principal import CurrentPrincipal
from infrawatch.errors import InfraWatchError, UnsupportedContent
from infrawatch.ingest.bodies import read_body, read_snappy_body
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.endpoint import TheIntake, answering_with
from infrawatch.ingest.intake import Outcome, Wishes
from infrawatch.ingest.protocols.remote_write import batch, version1, version2
from infrawatch.ingest.protocols.remote_write.batch import to_decoded
from infrawatch.ingest.protocols.remote_write.classic import to_classics
from infrawatch.problems import RETRY_AFTER_S

MAX_REASONS = 10
"""As many as a sender's log can bear; Prometheus cuts what it logs of an answer."""


_MEDIA_TYPE = "application/x-protobuf"
_FIRST, _SECOND = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"


class _Version(NamedTuple):
    format: str
    decode: Callable[[bytes, Find], batch.Request]
    reports_written: bool


_VERSIONS = {
    _FIRST: _Version("remote_write_1", version1.decode, reports_written=False),
    _SECOND: _Version("remote_write_2", version2.decode, reports_written=True),
}
"""By the name of the message, a parameter of Content-Type."""


class _Written(NamedTuple):
    """What of a request is on disk. Exemplars are counted when they arrive, but never stored."""

    samples: int = 0
    histograms: int = 0

    def to_headers(self, version: _Version) -> dict[str, str]:
        """The headers that 2.0 requires of every answer, once it is agreed what is spoken."""
        if not version.reports_written:
            return {}
        counts = {"Samples": self.samples, "Histograms": self.histograms, "Exemplars": 0}
        return {f"X-Prometheus-Remote-Write-{of}-Written": str(n) for of, n in counts.items()}


def _to_error(request: Request, error: InfraWatchError) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.retryable else {}
    if not isinstance(error, UnsupportedContent):
        headers |= _Written().to_headers(_negotiated(request))
    return PlainTextResponse(f"{error.code}: {error}\n", error.status, headers)


router = APIRouter(route_class=answering_with(_to_error), tags=["ingest"])

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    204: {"description": "All of it is on disk."},
    400: {"description": "Not read, or only its good part is on disk; the text says why.", **_TEXT},
    413: {"description": "The body is too large; send fewer samples at a time.", **_TEXT},
    415: {"description": "A content type, message or encoding that is not read here.", **_TEXT},
    503: {"description": "Try again after `Retry-After` seconds; it is always safe.", **_TEXT},
}
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
    responses=_RESPONSES,
    openapi_extra=_BODY,
)
async def write(request: Request, principal: CurrentPrincipal, intake: TheIntake) -> Response:
    """Store what Prometheus, vmagent and others send by remote write 1.0 or 2.0.

    Samples keep every bit, stale markers too. Native histograms are stored as classic ones.
    Metadata are stored; start timestamps are accepted; exemplars are not stored. The good part of
    a bad request is stored; sending a request again is always safe.
    """
    version = _negotiated(request)
    body = await _read(request)
    told = version.decode(body, intake.finder(principal, version.format))
    outcomes = [await intake.take(to_decoded(told), principal, version.format, Wishes())]
    written = _Written(samples=outcomes[0].accepted)
    if any(series.histograms for series in told.careful.values()):
        decoded, lasts = to_classics(told)
        outcome = await intake.take(decoded, principal, f"{version.format}_histograms", Wishes())
        stored = len(lasts) if outcome.kept is None else np.count_nonzero(outcome.kept[lasts])
        outcomes.append(outcome)
        written = written._replace(histograms=int(stored))
    return _to_answer(outcomes, written.to_headers(version))


def _negotiated(request: Request) -> _Version:
    """What the request says it speaks; who says nothing speaks 1.0."""
    kind, *parameters = request.headers.get("content-type", _MEDIA_TYPE).split(";")
    named = {
        name.strip().lower(): value for name, _, value in (p.partition("=") for p in parameters)
    }
    version = _VERSIONS.get(named.get("proto", _FIRST).strip().strip('"'))
    if kind.strip().lower() != _MEDIA_TYPE or version is None:
        raise UnsupportedContent(
            f"remote write is {_MEDIA_TYPE}, with proto={' or '.join(_VERSIONS)} or without"
        )
    return version


async def _read(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "snappy").strip().lower()
    if encoding not in ("snappy", "zstd"):
        raise UnsupportedContent(
            f"Content-Encoding {encoding[:50]!r} is not read here: use snappy (its block format, "
            "without framing) or zstd"
        )
    read = read_snappy_body if encoding == "snappy" else read_body
    return await read(request, max_bytes=request.state.max_body_bytes)


def _to_answer(outcomes: Sequence[Outcome], headers: Mapping[str, str]) -> Response:
    """Nothing if all is stored, else why not. Some senders log no more than the first line."""
    refused = sum(outcome.verdicts.total for outcome in outcomes)
    if not refused:
        return Response(status_code=204, headers=headers)
    samples = sum(outcome.verdicts.rejected_samples for outcome in outcomes)
    verdicts = chain.from_iterable(outcome.verdicts for outcome in outcomes)
    reasons = [
        f"{verdict.locator}: {verdict.code}: {verdict.detail}"
        for verdict in islice(verdicts, MAX_REASONS)
    ]
    stored = sum(outcome.accepted for outcome in outcomes)
    reasons[0] = f"{samples} samples refused, {stored} stored; {reasons[0]}"
    if refused > MAX_REASONS:
        reasons.append(f"and {refused - MAX_REASONS} more")
    return PlainTextResponse("\n".join(reasons) + "\n", 400, headers)
