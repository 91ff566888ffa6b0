"""Where requests come from: whoever has many addresses is still one sender."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_BITS_OF_A_SITE = 64
"""Whoever has an IPv6 address has all that begin like it, and may use a new one every time."""


def site_of(address: str) -> str:
    """What stands for all the addresses one sender may have: of IPv6, their network of 64 bits.

    What is no address stays as it is, so that all that is "" is one sender.
    """
    found = find_address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), _BITS_OF_A_SITE), strict=False))
    return address if found is None else str(found)


def find_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, as IPv4 if it is that in the clothes of IPv6; None if none."""
    try:
        found = ip_address(text.partition("%")[0])  # a link-local one may name its interface
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
