"""Counts of wrong keys by site: further ones from a site that sends many are refused."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from time import monotonic

from infrawatch.access.limits.rates import Policy, Rates

AT_ONCE = 10
"""Wrong keys of one site that are tolerated at once: people mistype, agents keep an old key."""

ONE_MORE_S = 6.0
"""After this time, one more is tolerated."""

MAX_SITES = 10_000


class WrongKeys:
    """Counts by site (see `site_of`), as a host can have any number of IPv6 addresses.

    Valid keys are never checked here, so other clients behind the same address are unaffected.
    Memory is bounded: the site that was quiet for longest is forgotten. All servers count together
    in Redis, which is not asked once this process has counted too many by itself.
    """

    def __init__(self, rates: Rates, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._rates = rates
        self._what = what
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    async def add(self, site: str) -> timedelta | None:
        """Count a wrong key; return the delay until the next is tolerated, if too many."""
        pause = self._add_here(site)
        if pause is not None:
            return pause
        policy = Policy(site, self._what, 1 / ONE_MORE_S, round(AT_ONCE * ONE_MORE_S))
        usage = await self._rates.spend_together(policy, 1)
        return None if usage is None or usage.is_allowed else timedelta(seconds=usage.more_in_s)

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
