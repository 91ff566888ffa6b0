"""Topics: one tenant's selector, matched and encoded once for all its subscribers."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infrawatch.live.mailbox import Mailbox, Reason
from infrawatch.live.update import EntrySamples, OwnPart, Part, SharedPart, Update, joined
from infrawatch.model.samples import Columns, Int64s, is_among, latest_arrivals, series_bounds
from infrawatch.model.selector import Predicate, Selector, to_predicate
from infrawatch.store.journal import Entry
from infrawatch.store.selection.catalog import Series

MAX_MISSED_SAMPLES = 1_000_000
"""24 MB of entries kept while a snapshot is read; waiting topics share the entries."""

_JOINS_KEPT = 32
"""Joined updates kept per topic: its viewers mostly fall behind by the same updates."""


class TopicKey(NamedTuple):
    tenant_id: int
    selector: Selector


@dataclass(eq=False)
class Topic:
    """`series` only grows: a viewer that has received the first n still needs the rest."""

    key: TopicKey
    series: list[Series] = field(default_factory=list)
    ids: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    """The ids of its series, ascending."""

    mailboxes: set[Mailbox] = field(default_factory=set)
    accepts: Predicate = field(init=False)
    """Whether a series matches; raises `QueryTooBroad` if matching takes too much work."""

    is_loading: bool = True
    """Whether its series have not been read from a snapshot yet."""

    _missed: list[Entry] = field(default_factory=list)
    _missed_samples: int = 0
    _joins: OrderedDict[tuple[Update, ...], Update] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.accepts = to_predicate(self.key.selector, values_remembered=0)

    def learn(self, series: Sequence[Series]) -> bool:
        """Add series that match; returns whether any was new."""
        ids = np.array([one.id for one in series], np.int64)
        is_known = is_among(ids, self.ids).tolist()
        new = [one for one, known in zip(series, is_known, strict=True) if not known]
        self.series.extend(new)
        self.ids = np.union1d(self.ids, ids)
        return bool(new)

    def keep(self, entry: Entry) -> None:
        """Keep an entry until the topic's series are known."""
        self._missed.append(entry)
        self._missed_samples += len(entry.columns)
        if self._missed_samples > MAX_MISSED_SAMPLES:
            self._missed.clear()
            self._missed_samples = 0
            self.lose("slow_viewer")

    def loaded(self) -> Sequence[Entry]:
        """Mark the series as known; returns the entries that were kept."""
        missed, self._missed = self._missed, []
        self.is_loading = False
        return missed

    def publish(self, update: Update) -> None:
        # Every mailbox has this update from now on, so joins without it are not needed again.
        self._joins.clear()
        for mailbox in self.mailboxes:
            mailbox.put(update)

    def lose(self, reason: Reason) -> None:
        for mailbox in self.mailboxes:
            mailbox.lose(reason)

    def joined(self, updates: tuple[Update, ...]) -> Update:
        """Several updates as one; viewers that are equally far behind share it."""
        if len(updates) == 1:
            return updates[0]
        found = self._joins.get(updates)
        if found is None:
            found = self._joins[updates] = joined(updates)
            if len(self._joins) > _JOINS_KEPT:
                self._joins.popitem(last=False)
        return found


class Index:
    """Maps series to the topics that want them; rebuilt when either changes."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._topics = topics
        ids = np.concatenate([np.empty(0, np.int64), *(topic.ids for topic in topics)])
        owners = np.repeat(np.arange(len(topics)), [len(topic.ids) for topic in topics])
        order = np.argsort(ids, kind="stable")
        self._owners = owners[order]
        self._ids, self._starts = np.unique(ids[order], return_index=True)
        self._counts = np.diff(self._starts, append=len(ids))

    def parts_of(self, columns: Columns) -> list[tuple[Topic, Part]]:
        """The part of an entry that each topic wants; topics that want nothing are left out."""
        matching = columns.picked(is_among(columns.series_ids, self._ids))
        if len(matching) == 0:
            return []
        samples = EntrySamples(latest_arrivals(matching))
        owners, places = self._by_owner(samples.columns.series_ids[samples.bounds[:-1]])
        bounds = series_bounds(owners)
        topics = [self._topics[owner] for owner in owners[bounds[:-1]].tolist()]
        if len(topics) == 1:
            return [(topics[0], OwnPart(samples.columns))]
        sizes = np.add.reduceat(np.diff(samples.bounds)[places], bounds[:-1]).tolist()
        spans = pairwise(bounds.tolist())
        every_place = places.tolist()
        shares = (
            SharedPart(samples, every_place[start:end], size)
            for (start, end), size in zip(spans, sizes, strict=True)
        )
        return list(zip(topics, shares, strict=True))

    def _by_owner(self, series_ids: Int64s) -> tuple[Int64s, NDArray[np.intp]]:
        """One row for each topic that wants a series: the topic, ascending, and the series' place.

        Every series must be wanted by some topic.
        """
        found = np.searchsorted(self._ids, series_ids)
        counts = self._counts[found]
        firsts = np.repeat(self._starts[found] - np.cumsum(counts) + counts, counts)
        owners = self._owners[firsts + np.arange(len(firsts))]
        order = np.argsort(owners, kind="stable")
        return owners[order], np.repeat(np.arange(len(found)), counts)[order]
