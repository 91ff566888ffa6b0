"""The session's cookie, and which requests with it are a page's of ours."""

from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

NAME = "infrawatch_session"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing (RFC 9110, 9.2.1)."""

OWN_HEADER = "x-requested-with"
"""A page from elsewhere cannot send it without asking first, and is told no."""


def find_cookie(connection: HTTPConnection, name: str = NAME) -> str | None:
    """What a browser kept for us, under the name that `keep_cookie` gave it."""
    return connection.cookies.get(_name(connection, name))


def keep_cookie(
    response: Response, connection: HTTPConnection, value: str, life: timedelta, name: str = NAME
) -> None:
    """Let the browser send a value with every request to us, and show it to no script.

    Behind TLS its name begins with `__Host-`, so that no other host of the domain can plant one.
    """
    response.set_cookie(
        _name(connection, name),
        value,
        max_age=int(life.total_seconds()),
        path="/",
        secure=_is_private(connection),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response, connection: HTTPConnection, name: str = NAME) -> None:
    """Let the browser forget a value."""
    response.delete_cookie(
        _name(connection, name),
        path="/",
        secure=_is_private(connection),
        httponly=True,
        samesite="lax",
    )


def is_from_own_page(connection: HTTPConnection) -> bool:
    """Whether no page from elsewhere can have made a request, though cookies came with it.

    Browsers say in `Origin` whose page it is; what sends none has to send a header of its own.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return OWN_HEADER in connection.headers
    here = (connection.url.scheme, connection.headers.get("host", "").lower())
    there = urlsplit(origin)
    return (there.scheme, there.netloc.lower()) == here


def _name(connection: HTTPConnection, name: str) -> str:
    return f"__Host-{name}" if _is_private(connection) else name


def _is_private(connection: HTTPConnection) -> bool:
    return connection.url.scheme in ("https", "wss")
