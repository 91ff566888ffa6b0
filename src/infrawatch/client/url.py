"""Server URLs, and the headers of requests."""

from importlib.metadata import version

import httpx

from infrawatch.errors import InvalidInput

LATER = frozenset({408, 429})
"""The only 4xx that mean "later" rather than "never"."""

_USER_AGENT = f"infrawatch/{version('infrawatch')}"


def public_url(url: str) -> str:
    """Return the URL without user and password, for display and logs.

    Raises:
        InvalidInput: it is not an http or https URL.
    """
    return str(parse_url(url).copy_with(userinfo=b""))


def parse_url(url: str) -> httpx.URL:
    """Read a URL.

    Raises:
        InvalidInput: it is not an http or https URL.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url[:100]!r} is not a URL: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidInput(f"{url[:100]!r} is not a URL such as https://metrics.example.org")
    return parsed


def to_headers(key: str | None) -> dict[str, str]:
    """Return the headers that identify the client.

    Raises:
        InvalidInput: the key cannot be sent in a header.
    """
    headers = {"User-Agent": _USER_AGENT}
    if key is not None:
        if not (key.isascii() and key.isprintable() and key.strip()):
            raise InvalidInput("the key is empty or holds characters that no header can carry")
        headers["Authorization"] = f"Bearer {key}"
    return headers
