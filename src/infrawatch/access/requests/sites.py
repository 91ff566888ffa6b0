"""Sites that requests come from: the addresses of one sender count as one."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_BITS_OF_A_SITE = 64
"""The holder of an IPv6 address has its whole /64 network, and can use a new one every time."""

_REMEMBERED = 4_096
"""Addresses whose sites are remembered, because each sends many requests."""


@lru_cache(maxsize=_REMEMBERED)
def site_of(address: str) -> str:
    """Return the site that an address belongs to: for IPv6, its /64 network.

    Text that is not an address is returned unchanged, so that "" is one sender.
    """
    found = find_address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), _BITS_OF_A_SITE), strict=False))
    return address if found is None else str(found)


def find_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, converting IPv4-mapped IPv6 to IPv4; return None if it is not one."""
    try:
        found = ip_address(text.partition("%")[0])  # a link-local one may name its interface
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
