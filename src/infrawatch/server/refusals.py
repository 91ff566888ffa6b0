"""Refusals of requests that never reach the application: a problem as bytes."""

import json
from http import HTTPStatus

from infrawatch.access.requests.browsers import SECURITY_HEADERS
from infrawatch.errors import InfraWatchError
from infrawatch.problems import MEDIA_TYPE, RETRY_AFTER_S, to_members


def to_bytes(error: InfraWatchError) -> bytes:
    """Return the complete response, after which the connection is closed."""
    body = json.dumps(to_members(error)).encode()
    headers = [
        *SECURITY_HEADERS,
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if error.retryable:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", body])
