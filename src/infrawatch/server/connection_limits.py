"""Limits on connections, per sender and in total."""

import asyncio
from collections import Counter
from typing import Literal

from infrawatch.access.requests.sites import find_address, site_of
from infrawatch.settings import Settings


class ConnectionLimits:
    """Counts open connections, and decides whether to admit another.

    Connections from a trusted proxy carry many senders, and count towards the total only.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._sites: dict[asyncio.BaseTransport, str] = {}
        self._counts: Counter[str] = Counter()

    def admit(
        self, transport: asyncio.BaseTransport, address: str
    ) -> Literal["total", "address"] | None:
        """Count a connection until `release`; return the limit that refuses it, if any."""
        if len(self._sites) >= self.settings.max_connections:
            return "total"
        site, limit = site_of(address), self.settings.max_connections_per_address
        if limit and self._counts[site] >= limit and not self._is_proxy(address):
            return "address"
        self._sites[transport] = site
        self._counts[site] += 1
        return None

    def release(self, transport: asyncio.BaseTransport) -> None:
        """Stop counting a connection; does nothing if it is not counted."""
        site = self._sites.pop(transport, None)
        if site is not None:
            self._counts[site] -= 1
            if not self._counts[site]:
                del self._counts[site]

    def _is_proxy(self, address: str) -> bool:
        found = find_address(address)
        return found is not None and any(
            found in network for network in self.settings.trusted_proxies
        )
