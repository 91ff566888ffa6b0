"""Refused requests: all are counted, and logged once a minute for each site and reason."""

from collections import OrderedDict
from time import monotonic

import structlog
from starlette.requests import HTTPConnection

from infrawatch.access.requests.sites import site_of
from infrawatch.telemetry import Telemetry

log = structlog.get_logger()

_PAUSE_S = 60.0
_MAX_LOGGED = 1_000
"""Per minute; further refusals are only counted, as an attack must not fill a disk."""


class Refusals:
    """Counts refusals, and logs them."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._logged: OrderedDict[tuple[str, str], float] = OrderedDict()  # the oldest is first

    def note(self, connection: HTTPConnection, reason: str, who: str | None = None) -> None:
        """Count a refusal. `who` names a known key; the credential itself is never logged."""
        self._telemetry.refused.labels(reason).inc()
        site = origin_of(connection)
        if self._is_to_log(reason, site):
            route = getattr(connection.scope.get("route"), "path", "unmatched")
            log.warning("request_refused", reason=reason, address=site, route=route, key=who)

    def _is_to_log(self, reason: str, site: str) -> bool:
        now = monotonic()
        while self._logged and now - next(iter(self._logged.values())) >= _PAUSE_S:
            self._logged.popitem(last=False)
        if (reason, site) in self._logged or len(self._logged) >= _MAX_LOGGED:
            return False
        self._logged[reason, site] = now
        return True


def origin_of(connection: HTTPConnection) -> str:
    """Return the site a request came from; all Unix socket connections share one."""
    client = connection.scope.get("client")
    return site_of(client[0]) if client else "local"
