"""How many wrong keys came from where: whoever tries many is not answered for a while."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from time import monotonic

from infrawatch.access.rates import Policy, Rates

AT_ONCE = 10
"""Wrong keys of one site that are answered as such; people mistype, agents keep an old key."""

ONE_MORE_S = 6.0
"""After so long, one more is."""

MAX_SITES = 10_000


class WrongKeys:
    """Counts by site, as `site_of` has it: a host has as many addresses of IPv6 as it likes.

    Nobody with a right key is ever asked about here, so others behind the same address lose
    nothing. What is remembered is bounded: the site that was quiet for longest is forgotten.
    All servers count together in Redis, which is not asked once this one has had enough by itself.
    """

    def __init__(self, rates: Rates, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._rates = rates
        self._what = what
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    async def add(self, site: str) -> timedelta | None:
        """Count a wrong key; gives how long until another is looked at, if there are too many."""
        pause = self._add_here(site)
        if pause is not None:
            return pause
        policy = Policy(site, self._what, 1 / ONE_MORE_S, round(AT_ONCE * ONE_MORE_S))
        spent = await self._rates.spend_together(policy, 1)
        return None if spent is None or spent.is_allowed else timedelta(seconds=spent.more_in_s)

    def _add_here(self, site: str) -> timedelta | None:
        now = self._clock()
        paid_until = max(self._paid_until.get(site, now), now) + ONE_MORE_S
        too_far_s = paid_until - now - AT_ONCE * ONE_MORE_S
        if too_far_s > 0:
            return timedelta(seconds=too_far_s)
        self._paid_until[site] = paid_until
        self._paid_until.move_to_end(site)
        if len(self._paid_until) > MAX_SITES:
            self._paid_until.popitem(last=False)
        return None
