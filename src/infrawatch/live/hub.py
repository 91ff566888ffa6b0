"""The hub: takes entries in order and gives each topic its part; without viewers it is idle."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np

from infrawatch.errors import QueryTooBroad
from infrawatch.live.mailbox import Delivery, Mailbox
from infrawatch.live.recent_entries import RecentEntries
from infrawatch.live.topic import Index, Topic, TopicKey
from infrawatch.live.update import Position, Update
from infrawatch.model.samples import Int64s, is_among
from infrawatch.model.timerange import duration_us
from infrawatch.store.journal import Entry
from infrawatch.store.selection.catalog import Series
from infrawatch.store.writers import WriterPositions

NamesOf = Callable[[Sequence[int]], Awaitable[Sequence[tuple[int, Series]]]]
"""Looks up series by id, of any tenant; gives pairs of tenant id and series."""


_MAX_HOLD_S = 0.001
"""How long matching topics with new series may hold the event loop: there may be thousands of
both."""


class HubStart(NamedTuple):
    """Where the hub starts, from one snapshot; `active` writers committed in the replay window."""

    positions: WriterPositions
    active: Collection[int]
    series_ids: Int64s
    """The ids of all existing series, ascending."""

    recent: Sequence[Entry]
    """The latest entries; entries of transactions in progress may have arrived before them."""


class Hub:
    """Distributes entries to topics; one per process.

    The tail delivers each entry once, and those of one writer in order. The hub tracks the position
    of each writer, which viewers receive as cursors.
    """

    def __init__(
        self, epoch: UUID, names_of: NamesOf, window: timedelta, *, max_tenant_series: int
    ) -> None:
        self._epoch = epoch
        self._max_tenant_series = max_tenant_series
        self._names_of = names_of
        self._window_us = duration_us(window)
        self._topics: dict[TopicKey, Topic] = {}
        self._index: Index | None = None
        self._seen = np.empty(0, np.int64)
        self._recent = RecentEntries()
        self._last_at_us: dict[int, int] = {}
        self.seqs: dict[int, int] = {}
        self.at_us = 0
        self._checked_at_s = 0.0
        self._activity = asyncio.Event()
        self._is_closed = False

    def start(self, start: HubStart) -> None:
        """Begin at the writers' positions in a snapshot of the database."""
        self.seqs = dict(start.positions.seqs)
        self.note_applied(start.positions.at_us, asyncio.get_running_loop().time())
        self._last_at_us = dict.fromkeys(start.active, self.at_us)
        self._seen = start.series_ids
        self._recent.clear()
        for entry in start.recent:
            self._recent.add(entry)
        self._activity.set()

    def stop(self) -> None:
        """Stop taking entries; the next viewer starts the hub from a new snapshot."""
        self._activity.clear()
        self._recent.clear()
        self._seen = np.empty(0, np.int64)

    @property
    def is_active(self) -> bool:
        """Whether entries are wanted."""
        return self._activity.is_set()

    async def until_active(self) -> None:
        await self._activity.wait()

    @property
    def has_viewers(self) -> bool:
        return bool(self._topics)

    @property
    def viewers(self) -> int:
        return sum(len(topic.mailboxes) for topic in self._topics.values())

    @contextmanager
    def joined(
        self, key: TopicKey, delivery: Delivery
    ) -> Generator[tuple[Topic, Mailbox], None, None]:
        """Add a mailbox to a topic; the last mailbox to leave removes the topic."""
        if not (self._topics or self.is_active):
            self._checked_at_s = asyncio.get_running_loop().time()  # an idle hub did not ask
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(key)
        mailbox = Mailbox(delivery)
        if self._is_closed:
            mailbox.close()
        topic.mailboxes.add(mailbox)
        try:
            yield topic, mailbox
        finally:
            mailbox.close()
            topic.mailboxes.discard(mailbox)
            if not topic.mailboxes and self._topics.get(key) is topic:
                del self._topics[key]
                self._index = None

    def learn(self, topic: Topic, series: Sequence[Series]) -> None:
        """Give a topic its series from a snapshot, and the entries that came in the meantime.

        Raises:
            QueryTooBroad: all topics of the tenant together would have too many series.
        """
        tenant_id = topic.key.tenant_id
        others = sum(
            len(one.ids)
            for key, one in self._topics.items()
            if key.tenant_id == tenant_id and one is not topic
        )
        if others + len(series) > self._max_tenant_series:
            raise QueryTooBroad(
                f"all live selectors of your tenant mean more than {self._max_tenant_series} "
                "series together: add labels to them, or leave some"
            )
        if topic.learn(series) or topic.is_loading:
            self._index = None
        if topic.is_loading:
            missed, index, position = topic.loaded(), Index([topic]), self.position()
            for entry in missed:
                self._publish(index, entry, position)

    async def apply(self, entry: Entry) -> None:
        """Apply the next entry of its writer.

        Raises:
            Unavailable: new series cannot be looked up; the entry was not applied.
        """
        await self._match_new_series(entry.columns.series_ids)
        self.seqs[entry.writer] = entry.seq
        self._last_at_us[entry.writer] = entry.at_us
        entry = entry._replace(columns=self._recent.add(entry))
        topics = self._topics.values()
        for topic in topics:
            if topic.is_loading:
                topic.keep(entry)
        if self._index is None:
            self._index = Index([topic for topic in topics if not topic.is_loading])
        self._publish(self._index, entry, self.position())

    def note_applied(self, at_us: int, checked_at_s: float) -> None:
        """Record that everything committed until `at_us`, by the database's clock, is applied.

        `checked_at_s` is when the database was queried, by the event loop's clock.
        """
        self.at_us, self._checked_at_s = at_us, checked_at_s

    def since_check_s(self) -> float:
        """Seconds since the database last reported its commits, by this machine's clock."""
        return asyncio.get_running_loop().time() - self._checked_at_s

    def skip(self, writer: int, seq: int) -> None:
        """Continue after entries of a writer that are lost."""
        self.seqs[writer] = seq

    def lose_all(self) -> None:
        """Record that entries are lost for good: every viewer needs a new snapshot."""
        for topic in self._topics.values():
            topic.lose("journal_lost")

    def close(self) -> None:
        """End every subscription."""
        self._is_closed = True
        for topic in self._topics.values():
            for mailbox in topic.mailboxes:
                mailbox.close()

    def position(self) -> Position:
        """The positions of the writers that committed within the replay window."""
        horizon_us = self.at_us - self._window_us
        active = {
            writer: seq
            for writer, seq in self.seqs.items()
            if self._last_at_us.get(writer, 0) >= horizon_us
        }
        return Position(self._epoch, self.at_us, active)

    def _publish(self, index: Index, entry: Entry, position: Position) -> None:
        reached = {entry.writer: entry.seq}
        for topic, part in index.parts_of(entry.columns):
            topic.publish(Update(reached, part, position))

    async def _match_new_series(self, series_ids: Int64s) -> None:
        """Match series seen for the first time against every topic.

        This includes topics that wait for their snapshot, which may predate the series.
        """
        ids = np.unique(series_ids)
        new = ids[~is_among(ids, self._seen)]
        if len(new) == 0:
            return
        found: defaultdict[int, list[Series]] = defaultdict(list)
        for tenant_id, series in await self._names_of(new.tolist()):
            found[tenant_id].append(series)
        pacer = _Pacer()
        for topic in list(self._topics.values()):
            if topic.key.tenant_id in found:
                await self._match_series(topic, found[topic.key.tenant_id], pacer)
        self._seen = np.insert(self._seen, np.searchsorted(self._seen, new), new)

    async def _match_series(
        self, topic: Topic, all_series: Sequence[Series], pacer: "_Pacer"
    ) -> None:
        matching = []
        try:
            for one in all_series:
                if topic.accepts(one.metric, one.labels):
                    matching.append(one)
                await pacer.pause()
        except QueryTooBroad:  # viewers get this error instead of a new snapshot
            topic.lose("slow_viewer")
        if topic.learn(matching):
            self._index = None


class _Pacer:
    """Yields to the event loop at intervals of `_MAX_HOLD_S` during a long loop."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._paused_at_s = self._clock()

    async def pause(self) -> None:
        if self._clock() - self._paused_at_s > _MAX_HOLD_S:
            await asyncio.sleep(0)
            self._paused_at_s = self._clock()
