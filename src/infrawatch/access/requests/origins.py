"""The header Origin: which page a request is from."""

from urllib.parse import urlsplit


def parse_origin(origin: str) -> tuple[str, str]:
    """Return its scheme, and its host with port in lower case; empty ones if it has none."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # such as http://[::1
        return "", ""
    return parts.scheme, parts.netloc.lower()
