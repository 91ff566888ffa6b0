"""Origins: of the page that a request is from, and of this server as browsers know it."""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

PUBLIC_URL = "infrawatch.public_url"
"""The key, in a request's scope, of INFRAWATCH_PUBLIC_URL: an origin, or None if it is not set."""


def parse_origin(origin: str) -> tuple[str, str]:
    """Return its scheme, and its host with port in lower case; empty ones if it has none."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # such as http://[::1
        return "", ""
    return parts.scheme, parts.netloc.lower()


def find_public_url(connection: HTTPConnection) -> str | None:
    """Return the origin under which browsers reach this server, if it is set."""
    public_url: str | None = connection.scope.get(PUBLIC_URL)
    return public_url
