"""The session cookie, and protection of it against cross-site requests."""

from datetime import timedelta

from starlette.requests import HTTPConnection
from starlette.responses import Response

from infrawatch.access.requests.origins import find_public_url, parse_origin

NAME = "infrawatch_session"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing (RFC 9110, 9.2.1)."""

OWN_HEADER = "x-requested-with"
"""Pages of other sites cannot send it without a CORS preflight, which is refused."""


def find_cookie(connection: HTTPConnection, name: str = NAME) -> str | None:
    """Return the cookie that `keep_cookie` set under a name, if any."""
    return connection.cookies.get(_name(connection, name))


def keep_cookie(
    response: Response, connection: HTTPConnection, value: str, life: timedelta, name: str = NAME
) -> None:
    """Set a cookie that browsers send with every request and hide from scripts.

    Over TLS, and if INFRAWATCH_PUBLIC_URL is https, it is `Secure` and its name begins with
    `__Host-`, so that no other host of the domain can set it.
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
    """Delete a cookie."""
    response.delete_cookie(
        _name(connection, name),
        path="/",
        secure=_is_private(connection),
        httponly=True,
        samesite="lax",
    )


def is_from_own_page(connection: HTTPConnection) -> bool:
    """Whether a request cannot come from a page of another site (cross-site request forgery).

    Browsers send the page's origin in `Origin`: that of the request, or INFRAWATCH_PUBLIC_URL.
    Requests without it need `X-Requested-With`.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return OWN_HEADER in connection.headers
    here = (connection.url.scheme, connection.headers.get("host", "").lower())
    return parse_origin(origin) == here or origin == find_public_url(connection)


def _name(connection: HTTPConnection, name: str) -> str:
    return f"__Host-{name}" if _is_private(connection) else name


def _is_private(connection: HTTPConnection) -> bool:
    public_url = find_public_url(connection) or ""
    return public_url.startswith("https:") or connection.url.scheme in ("https", "wss")
