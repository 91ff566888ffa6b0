"""How many wrong keys came from where: whoever tries many is not answered for a while."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network
from time import monotonic

AT_ONCE = 10
"""Wrong keys of one address that are answered as such; people mistype, agents keep an old key."""

ONE_MORE_S = 6.0
"""After so long, one more is."""

MAX_ADDRESSES = 10_000


class WrongKeys:
    """Counts by address, of IPv6 by network of 64 bits: a host has as many of those as it likes.

    Nobody with a right key is ever asked about here, so others behind the same address lose
    nothing. What is remembered is bounded: the address that was quiet for longest is forgotten.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def add(self, address: str) -> timedelta | None:
        """Count a wrong key; gives how long until another is looked at, if there are too many."""
        place, now = _to_place(address), self._clock()
        paid_until = max(self._paid_until.get(place, now), now) + ONE_MORE_S
        too_far_s = paid_until - now - AT_ONCE * ONE_MORE_S
        if too_far_s > 0:
            return timedelta(seconds=too_far_s)
        self._paid_until[place] = paid_until
        self._paid_until.move_to_end(place)
        if len(self._paid_until) > MAX_ADDRESSES:
            self._paid_until.popitem(last=False)
        return None


def _to_place(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    if ip.version == 4:  # noqa: PLR2004  # of the Internet Protocol
        return address
    return str(ip.ipv4_mapped or ip_network((int(ip), 64), strict=False))
