"""Servers on this machine; without HTTPX, as servers import this, too."""

import ipaddress

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # replaced, not bound


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that no proxy is in between."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_url(host: str, port: int) -> str:
    """Return the URL at which programs on this machine reach a server that listens there."""
    host = _EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
