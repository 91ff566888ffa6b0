"""Plain-text responses, for senders that only read the status and log the text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.intake import Outcome
from infrawatch.ingest.verdicts import counted
from infrawatch.problems import headers_of

MAX_REASONS = 10
"""Few enough for a log."""

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}

RESPONSES: dict[int | str, dict[str, Any]] = {
    204: {"description": "Every sample is stored, on disk."},
    400: {
        "description": "Malformed, or only the valid part is stored; see the text.",
        **_TEXT,
    },
    401: {"description": "The key is missing or invalid.", **_TEXT},
    403: {"description": "The key lacks the scope `write`.", **_TEXT},
    413: {"description": "The body is too large; send it in parts.", **_TEXT},
    415: {"description": "The content type or encoding is not supported.", **_TEXT},
    429: {"description": "Too many wrong keys came from this address.", **_TEXT},
    503: {"description": "Try again after `Retry-After` seconds; it is always safe.", **_TEXT},
}
"""The OpenAPI responses of routes that respond in plain text."""


def failed(_request: Request, error: InfraWatchError) -> Response:
    """Convert an error to a response: nothing was stored."""
    return PlainTextResponse(f"{error.code}: {error}\n", error.status, headers_of(error))


def stored(outcomes: Sequence[Outcome], headers: Mapping[str, str] | None = None) -> Response:
    """Convert the outcomes of a request: 204, or 400 with reasons if anything was refused.

    The first line includes the first reason, because some senders log only one line. A reason
    that is that of many verdicts, as of every sample of a histogram, has one line.
    """
    refusals = sum(outcome.verdicts.total for outcome in outcomes)
    if not refusals:
        return Response(status_code=204, headers=headers)
    verdicts = chain.from_iterable(outcome.verdicts for outcome in outcomes)
    reasons = Counter(
        f"{verdict.locator}: {verdict.code}: {verdict.detail}" for verdict in verdicts
    )
    lines = list(islice(reasons, MAX_REASONS))
    left_out = refusals - sum(reasons[line] for line in lines)
    rejected = sum(outcome.verdicts.rejected_samples for outcome in outcomes)
    accepted = sum(outcome.accepted for outcome in outcomes)
    lines[0] = f"{counted(rejected, 'sample')} refused, {accepted} stored; {lines[0]}"
    if left_out:
        lines.append(f"and {left_out} more")
    return PlainTextResponse("\n".join(lines) + "\n", 400, headers)
