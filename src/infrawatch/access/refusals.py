"""Who was refused, and why: counted all, logged once a minute for each address and reason."""

from time import monotonic

import structlog
from starlette.requests import HTTPConnection

from infrawatch.telemetry import Telemetry

log = structlog.get_logger()

_PAUSE_S = 60.0
_MAX_REMEMBERED = 10_000
"""Beyond that, some are logged twice: better than memory for every address of an attack."""


class Refusals:
    """One for a process."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._logged: dict[tuple[str, str], float] = {}

    def note(self, connection: HTTPConnection, reason: str, who: str | None = None) -> None:
        """Count a refusal. `who` names a key that is known; what was sent is never logged."""
        self._telemetry.refused.labels(reason).inc()
        address, now = address_of(connection), monotonic()
        if now - self._logged.get((reason, address), -_PAUSE_S) < _PAUSE_S:
            return
        if len(self._logged) >= _MAX_REMEMBERED:
            self._logged.clear()
        self._logged[reason, address] = now
        route = getattr(connection.scope.get("route"), "path", "unmatched")
        log.warning("request_refused", reason=reason, address=address, route=route, key=who)


def address_of(connection: HTTPConnection) -> str:
    """Where a request came from; those on a Unix socket come from one place."""
    return connection.client.host if connection.client else "local"
