"""Topics: one tenant's selector, matched once and encoded once for all who subscribed to it."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infrawatch.live.mailbox import Mailbox
from infrawatch.live.update import Update, joined
from infrawatch.model.samples import Columns, Int64s, series_bounds
from infrawatch.model.selector import Selector
from infrawatch.store.journal import Entry
from infrawatch.store.series import Series

_JOINS_KEPT = 32
"""Viewers of one topic fall behind by much the same updates; older joins are not kept."""


class TopicKey(NamedTuple):
    tenant_id: int
    selector: Selector


@dataclass(eq=False)
class Topic:
    """`series` only grows; a viewer who was told the first n needs to be told the rest."""

    key: TopicKey
    series: list[Series] = field(default_factory=list)
    mailboxes: set[Mailbox] = field(default_factory=set)
    loading: list[Entry] | None = field(default_factory=list)
    """Entries that came before it was known which series there are."""

    _ids: set[int] = field(default_factory=set)
    _joins: OrderedDict[tuple[Update, ...], Update] = field(default_factory=OrderedDict)

    @property
    def ids(self) -> Int64s:
        """The ids of its series, ascending."""
        return np.array(sorted(self._ids), np.int64)

    def learn(self, series: Iterable[Series]) -> bool:
        """Add series that match; tell whether any was new."""
        new = [one for one in series if one.id not in self._ids]
        self.series.extend(new)
        self._ids.update(one.id for one in new)
        return bool(new)

    def publish(self, update: Update) -> None:
        for mailbox in self.mailboxes:
            mailbox.put(update)

    def joined(self, updates: tuple[Update, ...]) -> Update:
        """Several updates as one; viewers who are equally far behind share it."""
        if len(updates) == 1:
            return updates[0]
        found = self._joins.get(updates)
        if found is None:
            found = self._joins[updates] = joined(updates)
            if len(self._joins) > _JOINS_KEPT:
                self._joins.popitem(last=False)
        return found


class Index:
    """Which topics want which series; built anew when either changes."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._topics = topics
        every = [topic.ids for topic in topics]
        ids = np.concatenate(every) if every else np.empty(0, np.int64)
        owners = np.repeat(np.arange(len(every)), [len(one) for one in every])
        order = np.argsort(ids, kind="stable")
        self._owners = owners[order]
        self._ids, self._starts = np.unique(ids[order], return_index=True)
        self._counts = np.diff(self._starts, append=len(ids))

    def wanted(self, columns: Columns) -> list[tuple[Topic, Columns]]:
        """The part of an entry that each topic wants; topics that want nothing are left out."""
        if len(self._ids) == 0:
            return []
        places = np.searchsorted(self._ids, columns.series_ids)
        places[places == len(self._ids)] = 0
        samples = np.flatnonzero(self._ids[places] == columns.series_ids)
        if len(samples) == 0:
            return []
        owners, samples = self._expanded(places[samples], samples)
        order = np.argsort(owners, kind="stable")
        bounds = series_bounds(owners[order].astype(np.int64)).tolist()
        return [
            (self._topics[owners[order[start]]], columns.picked(samples[order[start:end]]))
            for start, end in pairwise(bounds)
        ]

    def _expanded(
        self, places: NDArray[np.intp], samples: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """One row for each topic that wants a sample: the topic, and the sample."""
        counts = self._counts[places]
        firsts = np.repeat(self._starts[places] - np.cumsum(counts) + counts, counts)
        return self._owners[firsts + np.arange(len(firsts))], np.repeat(samples, counts)
