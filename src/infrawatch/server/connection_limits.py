"""How many connections there may be, of one sender and of all."""

import asyncio
from collections import Counter
from typing import Literal

from infrawatch.access.sites import find_address, site_of
from infrawatch.settings import Settings


class ConnectionLimits:
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
        site, most = site_of(address), self.settings.max_connections_per_address
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
        found = find_address(address)
        return found is not None and any(found in one for one in self.settings.trusted_proxies)
