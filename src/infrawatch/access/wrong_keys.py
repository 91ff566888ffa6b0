"""How many wrong keys came from where: whoever tries many is not answered for a while."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network
from time import monotonic

from infrawatch.access.rates import Policy, Rates

AT_ONCE = 10
"""Wrong keys of one address that are answered as such; people mistype, agents keep an old key."""

ONE_MORE_S = 6.0
"""After so long, one more is."""

MAX_ADDRESSES = 10_000


class WrongKeys:
    """Counts by address, of IPv6 by network of 64 bits: a host has as many of those as it likes.

    Nobody with a right key is ever asked about here, so others behind the same address lose
    nothing. What is remembered is bounded: the address that was quiet for longest is forgotten.
    All servers count together in Redis, which is not asked once this one has had enough by itself.
    """

    def __init__(self, rates: Rates, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._rates = rates
        self._what = what
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    async def add(self, address: str) -> timedelta | None:
        """Count a wrong key; gives how long until another is looked at, if there are too many."""
        place = _to_place(address)
        pause = self._add_here(place)
        if pause is not None:
            return pause
        policy = Policy(place, self._what, 1 / ONE_MORE_S, round(AT_ONCE * ONE_MORE_S))
        spent = await self._rates.spend_together(policy, 1)
        return None if spent is None or spent.is_allowed else timedelta(seconds=spent.more_in_s)

    def _add_here(self, place: str) -> timedelta | None:
        now = self._clock()
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
