"""How many connections there may be, of one sender and of all."""

import asyncio
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

from infrawatch.settings import Settings

_BITS_OF_A_SITE = 64
"""Whoever has an IPv6 address has all that begin like it, and may use a new one every time."""


class Gate:
    """Which connections there are, and whether there may be one more.

    What comes from a trusted proxy stands for many senders, and counts for the total only.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._sites: dict[asyncio.BaseTransport, str] = {}
        self._counts: Counter[str] = Counter()

    def admit(
        self, transport: asyncio.BaseTransport, address: str
    ) -> Literal["total", "address"] | None:
        """Count a connection until `release`; tells why not if there are too many."""
        if len(self._sites) >= self.settings.max_connections:
            return "total"
        site, most = _to_site(address), self.settings.max_connections_per_address
        if most and self._counts[site] >= most and not self._is_proxy(address):
            return "address"
        self._sites[transport] = site
        self._counts[site] += 1
        return None

    def release(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection; one that was not admitted, or is forgotten, does not matter."""
        site = self._sites.pop(transport, None)
        if site is not None:
            self._counts[site] -= 1
            if not self._counts[site]:
                del self._counts[site]

    def _is_proxy(self, address: str) -> bool:
        found = _read(address)
        return found is not None and any(found in one for one in self.settings.trusted_proxies)


def _to_site(address: str) -> str:
    """What stands for all the addresses one sender may have."""
    found = _read(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), _BITS_OF_A_SITE), strict=False))
    return str(found)


def _read(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address.partition("%")[0])  # a link-local one may name its interface
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
