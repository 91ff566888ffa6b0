"""The hub: takes entries in order, hands each topic its part. Without viewers it does nothing."""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import numpy as np

from infrawatch.live.mailbox import Delivery, Mailbox, Reason
from infrawatch.live.topic import Index, Topic, TopicKey
from infrawatch.live.update import Position, Update
from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import US, duration_us
from infrawatch.store.journal import Entry
from infrawatch.store.series import Series

RECENT_US = 30 * US
"""How long a later arrival may be ahead of an earlier one: above any transaction's deadline."""

NamesOf = Callable[[Sequence[int]], Awaitable[Sequence[tuple[int, Series]]]]
"""Reads series by id, whatever their tenant: (tenant id, series)."""


class Hub:
    """One for a process. Entries come from the tail, each once, those of a writer in order.

    It knows how far each writer has come, so that a viewer can be told where it stands.
    """

    def __init__(self, epoch: UUID, names_of: NamesOf, window: timedelta) -> None:
        self._epoch = epoch
        self._names_of = names_of
        self._window_us = duration_us(window)
        self._topics: dict[TopicKey, Topic] = {}
        self._index: Index | None = None
        self._seen = np.empty(0, np.int64)
        self._recent: deque[Entry] = deque()
        self._last_at_us: dict[int, int] = {}
        self.seqs: dict[int, int] = {}
        self.at_us = 0
        self.is_active = False

    def start(self, seqs: Mapping[int, int], at_us: int, series_ids: Int64s) -> None:
        """Begin where the writers stand in a snapshot that has these series, in ascending order."""
        self.seqs = dict(seqs)
        self._last_at_us = dict.fromkeys(seqs, at_us)
        self.at_us = at_us
        self._seen = series_ids
        self._recent.clear()
        self.is_active = True

    def stop(self) -> None:
        """Forget where the writers stand; the next viewer starts anew."""
        self.is_active = False
        self._recent.clear()
        self._seen = np.empty(0, np.int64)

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
        """A mailbox on a topic; the last one to leave takes the topic along."""
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(key)
        mailbox = Mailbox(delivery)
        topic.mailboxes.add(mailbox)
        try:
            yield topic, mailbox
        finally:
            topic.mailboxes.discard(mailbox)
            if not topic.mailboxes and self._topics.get(key) is topic:
                del self._topics[key]
                self._index = None

    def learn(self, topic: Topic, series: Sequence[Series]) -> None:
        """Tell a topic which series it has in a snapshot; it gets what came in the meantime."""
        if topic.learn(series):
            self._index = None
        missed, topic.loading = topic.loading or (), None
        index = Index([topic])
        for entry in missed:
            self._publish(index, entry, entry.columns, self.position())

    async def apply(self, entry: Entry) -> None:
        """Take the next entry of its writer.

        Raises:
            Unavailable: new series cannot be looked up; the entry was not taken.
        """
        await self._meet_new_series(entry.columns.series_ids)
        self.seqs[entry.writer] = entry.seq
        self._last_at_us[entry.writer] = entry.at_us
        columns = self._without_overtaken(entry)
        for topic in self._topics.values():
            if topic.loading is not None:
                topic.loading.append(entry)
        if self._index is None:
            self._index = Index([one for one in self._topics.values() if one.loading is None])
        self._publish(self._index, entry, columns, self.position())
        self._remember(entry)

    def lose_all(self, reason: Reason) -> None:
        """Something was missed for good: every viewer needs a new snapshot."""
        for topic in self._topics.values():
            for mailbox in topic.mailboxes:
                mailbox.lose(reason)

    def position(self) -> Position:
        """Where the writers stand that were heard of within the replay window."""
        horizon_us = self.at_us - self._window_us
        active = {
            writer: seq
            for writer, seq in self.seqs.items()
            if self._last_at_us.get(writer, 0) >= horizon_us
        }
        return Position(self._epoch, self.at_us, active)

    def last_at_us(self, writer: int) -> int | None:
        """When the writer's last applied entry arrived."""
        return self._last_at_us.get(writer)

    def _publish(self, index: Index, entry: Entry, columns: Columns, position: Position) -> None:
        for topic, wanted in index.wanted(columns):
            topic.publish(Update(((entry.writer, entry.seq),), wanted, position))

    async def _meet_new_series(self, series_ids: Int64s) -> None:
        """Let every topic look at series that have never been seen."""
        ids = np.unique(series_ids)
        places = np.searchsorted(self._seen, ids)
        known = np.zeros(len(ids), np.bool_)
        inside = places < len(self._seen)
        known[inside] = self._seen[places[inside]] == ids[inside]
        new = ids[~known]
        if len(new) == 0:
            return
        for tenant_id, series in await self._names_of(new.tolist()):
            for key, topic in self._topics.items():
                if key.tenant_id != tenant_id or topic.loading is not None:
                    continue
                if key.selector.accepts(series.metric, series.labels) and topic.learn([series]):
                    self._index = None
        self._seen = np.union1d(self._seen, new)

    def _without_overtaken(self, entry: Entry) -> Columns:
        """Leave out samples of which a later arrival was applied already.

        Entries of different writers may come in another order than they arrived; who arrived
        later wins, as in the store: by (arrival, writer, seq).
        """
        rank = (entry.at_us, entry.writer, entry.seq)
        later = [one.columns for one in self._recent if (one.at_us, one.writer, one.seq) > rank]
        columns = entry.columns
        for one in later:
            both = Columns.joined([columns, one])
            is_other = np.arange(len(both)) >= len(columns)
            order = np.lexsort((is_other, both.times_us, both.series_ids))
            ordered = both.picked(order)
            same = np.zeros(len(both), np.bool_)
            same[:-1] = (ordered.series_ids[1:] == ordered.series_ids[:-1]) & (
                ordered.times_us[1:] == ordered.times_us[:-1]
            )
            overtaken = np.zeros(len(both), np.bool_)
            overtaken[order] = same & np.append(is_other[order][1:], False)
            columns = columns.picked(~overtaken[: len(columns)])
        return columns

    def _remember(self, entry: Entry) -> None:
        self._recent.append(entry)
        while self._recent and self._recent[0].at_us < entry.at_us - RECENT_US:
            self._recent.popleft()
