"""Checks of a request's head beyond those of the parser."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address

from infrawatch.errors import InfraWatchError

_MAX_HOST_BYTES = 300
"""A host name has at most 253 characters; a port may follow."""

_MAX_PORT = 65_535

# RFC 3986, 3.2.2; `_is_host` validates IPv6 addresses further.
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::(\d{0,5}))?"
)

_HOW_HOST = "send one header Host, as the URL has it: a name or an address, and a port if need be"


class NotHttp(InfraWatchError):
    code = "not_http"
    status = 400


class UrlTooLong(InfraWatchError):
    code = "url_too_long"
    status = 414


class HeadersTooLarge(InfraWatchError):
    code = "headers_too_large"
    status = 431


class UnknownCoding(InfraWatchError):
    code = "unknown_transfer_coding"
    status = 501


class UnknownVersion(InfraWatchError):
    code = "unknown_http_version"
    status = 505


def find_flaw(version: str, headers: Iterable[tuple[bytes, bytes]]) -> InfraWatchError | None:
    """Return why a request must be refused, if a proxy may interpret its head differently.

    The names in `headers` are lowercase. Sources: RFC 9112, 2.3, 3.2 and 6.1.
    """
    hosts: list[bytes] = []
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
    if version not in ("1.0", "1.1"):
        return UnknownVersion("this is neither HTTP/1.1 nor HTTP/1.0, which are read here")
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_is_host, hosts)):
        return NotHttp(f"the header Host is missing, there twice, or no host: {_HOW_HOST}")
    if codings and version == "1.0":
        return NotHttp("HTTP/1.0 has no Transfer-Encoding: send Content-Length, or HTTP/1.1")
    if codings and b",".join(codings).strip().lower() != b"chunked":
        return UnknownCoding(
            "no Transfer-Encoding but chunked is read here: compressed bodies say so in "
            "Content-Encoding"
        )
    return None


@lru_cache(maxsize=256)  # nearly all requests have the same Host
def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value) if len(value) <= _MAX_HOST_BYTES else None
    if found is None:
        return False
    address, port = found.groups()
    try:
        return (not port or int(port) <= _MAX_PORT) and (
            address is None or bool(IPv6Address(address.decode()).exploded)
        )
    except ValueError:
        return False
