"""How committed entries reach viewers: writer → tail (and bus) → hub → topics."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from infrawatch.live.hub import Hub
from infrawatch.live.initial_state import InitialStateReader
from infrawatch.live.subscription import LiveUpdates
from infrawatch.live.tail import Tail
from infrawatch.store.database import Database
from infrawatch.store.journal import Entry
from infrawatch.store.selection.catalog import Series
from infrawatch.store.series import find_names
from infrawatch.telemetry import Telemetry

if TYPE_CHECKING:
    from infrawatch.live.bus import Bus

POLL_ALONE = timedelta(milliseconds=250)
"""How often the database is polled for commits of other processes when there is no bus."""

POLL_WITH_BUS = timedelta(seconds=1)
"""How often it is polled for entries that the bus has lost."""


_WIDEST = 10
"""All live selectors of a tenant together may match this many times `max_series` series."""


class LiveOptions(NamedTuple):
    replay_window: timedelta
    max_series: int
    redis_url: str | None


class Pipeline:
    """The live side of one process. `runs` are its endless tasks; all are vital."""

    def __init__(
        self, database: Database, epoch: UUID, telemetry: Telemetry, options: LiveOptions
    ) -> None:
        async def names_of(ids: Sequence[int]) -> Sequence[tuple[int, Series]]:
            async with database.reading() as connection:
                return await find_names(connection, ids)

        window, url = options.replay_window, options.redis_url
        poll = POLL_ALONE if url is None else POLL_WITH_BUS
        self._telemetry = telemetry
        max_tenant_series = _WIDEST * options.max_series
        self._hub = Hub(epoch, names_of, window, max_tenant_series=max_tenant_series)
        self._tail = Tail(database, self._hub, poll=poll, replay_window=window)
        self._bus = None if url is None else self._open_bus(url, epoch)
        states = InitialStateReader(
            database, self._tail, epoch, replay_window=window, max_series=options.max_series
        )
        self.live = LiveUpdates(self._hub, states)

    def _open_bus(self, url: str, epoch: UUID) -> "Bus":
        # Imported only with a URL, as redis-py takes a twentieth of a server's start-up time.
        from infrawatch.live.bus import Bus  # noqa: PLC0415

        return Bus(url, str(epoch), self._telemetry, self._hub, self._tail.offer)

    @property
    def runs(self) -> Sequence[Callable[[], Coroutine[object, object, None]]]:
        if self._bus is None:
            return [self._tail.run]
        return [self._tail.run, self._bus.run_publishing, self._bus.run_listening]

    def on_committed(self, entry: Entry) -> None:
        """Take an entry of this process; neither blocks nor raises."""
        self._tail.offer(entry)
        if self._bus is not None:
            self._bus.publish(entry)

    def refresh(self) -> None:
        """Update the gauges of the live side."""
        self._telemetry.viewers.set(self._hub.viewers)
        self._telemetry.live_lag_seconds.set(self._tail.lag_s())

    def describe(self) -> Mapping[str, str]:
        """A human-readable status of the live side."""
        return {"live": f"{self._tail.lag_s():.3f} s behind"} | (
            {} if self._bus is None else {"bus": self._bus.describe()}
        )
