"""The hub, its topics and what arrived late, without a database."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from infrawatch.errors import QueryTooBroad
from infrawatch.live import hub as hubs
from infrawatch.live import topic as topics
from infrawatch.live import update as updates
from infrawatch.live.hub import Hub, HubStart
from infrawatch.live.mailbox import Mailbox
from infrawatch.live.recent_entries import MAX_SAMPLES, RECENT_US, RecentEntries, unreplaced
from infrawatch.live.topic import Index, Topic, TopicKey
from infrawatch.live.update import OwnPart, encode_samples
from infrawatch.model.samples import Columns
from infrawatch.model.selector import parse_selector
from infrawatch.model.timerange import US
from infrawatch.store.journal import Entry
from infrawatch.store.selection.catalog import Series
from infrawatch.store.writers import WriterPositions

EPOCH = UUID(int=1)
START_US = 1_000 * US

Told = tuple[int, int, float]
"""Series, time, value."""


def columns(*samples: Told) -> Columns:
    ids, times, values = zip(*samples, strict=True) if samples else ((), (), ())
    return Columns(np.array(ids, np.int64), np.array(times, np.int64), np.array(values, float))


def entry(writer: int, seq: int, *samples: Told, at_us: int = START_US) -> Entry:
    return Entry(writer, seq, at_us, columns(*samples))


def told(mailbox: Mailbox) -> list[Told]:
    return [
        sample
        for update in mailbox.take()
        for sample in zip(*(column.tolist() for column in update.part.columns), strict=True)
    ]


class Stored:
    """The series there are: (tenant, metric) by id."""

    def __init__(self, series: Mapping[int, tuple[int, str]]) -> None:
        self.series = series
        self.asked: list[Sequence[int]] = []

    async def names_of(self, ids: Sequence[int]) -> list[tuple[int, Series]]:
        self.asked.append(ids)
        found = [(one, *self.series[one]) for one in ids]
        return [(tenant, Series(one, metric, {})) for one, tenant, metric in found]


def hub_of(stored: Stored, seqs: Mapping[int, int] | None = None, *known: int) -> Hub:
    hub = Hub(EPOCH, stored.names_of, timedelta(minutes=10), max_tenant_series=1_000)
    hub.start(
        HubStart(WriterPositions(seqs or {}, START_US), seqs or {}, np.array(known, np.int64), [])
    )
    return hub


def key(metric: str, tenant_id: int = 1) -> TopicKey:
    return TopicKey(tenant_id, parse_selector(metric))


async def test_each_topic_gets_its_part() -> None:
    hub = hub_of(Stored({1: (1, "a"), 2: (1, "b")}))
    with hub.joined(key("a"), "lossless") as (a, first), hub.joined(key("b"), "lossless") as (b, _):
        hub.learn(a, [])
        hub.learn(b, [])
        await hub.apply(entry(1, 1, (1, 10, 1.0), (2, 10, 2.0), (1, 20, 3.0)))
        assert told(first) == [(1, 10, 1.0), (1, 20, 3.0)]


async def test_a_tenant_never_gets_data_of_another() -> None:
    hub = hub_of(Stored({1: (1, "a"), 2: (2, "a")}))
    with hub.joined(key("a", 1), "lossless") as (own, first), hub.joined(key("a", 2), "lossless"):
        hub.learn(own, [])
        await hub.apply(entry(1, 1, (1, 10, 1.0), (2, 10, 2.0)))
        assert told(first) == [(1, 10, 1.0)]
        assert [series.id for series in own.series] == [1]


async def test_entries_that_arrive_before_the_snapshot_are_kept_until_then() -> None:
    hub = hub_of(Stored({1: (1, "a")}), {}, 1)
    with hub.joined(key("a"), "lossless") as (topic, mailbox):
        await hub.apply(entry(1, 1, (1, 10, 1.0)))
        assert told(mailbox) == []
        hub.learn(topic, [Series(1, "a", {})])
        assert told(mailbox) == [(1, 10, 1.0)]


async def test_a_series_created_after_the_snapshot_was_taken_but_before_it_is_known_joins() -> None:
    hub = hub_of(Stored({1: (1, "a")}))
    with hub.joined(key("a"), "lossless") as (topic, mailbox):
        await hub.apply(entry(1, 1, (1, 10, 1.0)))
        hub.learn(topic, [])  # taken before there was series 1
        await hub.apply(entry(1, 2, (1, 20, 2.0)))
        assert told(mailbox) == [(1, 10, 1.0), (1, 20, 2.0)]


async def test_entries_beyond_the_limit_during_a_snapshot_are_reported_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "MAX_MISSED_SAMPLES", 1)
    hub = hub_of(Stored({1: (1, "a")}))
    with hub.joined(key("a"), "lossless") as (topic, mailbox):
        await hub.apply(entry(1, 1, (1, 10, 1.0), (1, 20, 1.0)))
        hub.learn(topic, [])
        assert mailbox.restart() == "slow_viewer"


async def test_samples_for_many_topics_are_encoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[object] = []

    def counting(value: object) -> bytes:
        encoded.append(value)
        return to_json(value)

    monkeypatch.setattr(updates, "to_json", counting)
    hub = hub_of(Stored({1: (1, "a"), 2: (1, "b")}), {}, 1, 2)
    with ExitStack() as stack:
        seats = [
            stack.enter_context(hub.joined(key(selector), "lossless"))
            for selector in ("a", "a", '{__name__=~"a|b"}', '{__name__=~"a|c"}')
        ]
        for topic, _ in seats:
            named = [Series(one, name, {}) for one, name in ((1, "a"), (2, "b"))]
            hub.learn(topic, [one for one in named if topic.key.selector.accepts(one.metric, {})])
        await hub.apply(entry(1, 1, (1, 10_000, 1.0), (2, 10_000, 2.0)))
        texts = [update.part.json for _, mailbox in seats for update in mailbox.take()]
    a, b = '"1":[[10,1.0]]', '"2":[[10,2.0]]'
    assert texts == ["{" + text + "}" for text in (a, a, f"{a},{b}", a)]
    assert len(encoded) == 1


async def test_series_are_looked_up_once() -> None:
    stored = Stored({1: (1, "a"), 2: (1, "b"), 3: (1, "c")})
    hub = hub_of(stored, {}, 2)
    with hub.joined(key("a"), "lossless") as (topic, _):
        hub.learn(topic, [])
        for seq in (1, 2):
            await hub.apply(entry(1, seq, (1, seq, 1.0), (2, seq, 1.0), (3, seq, 1.0)))
    assert stored.asked == [[1, 3]]


async def test_the_series_that_one_tenant_follows_are_bounded() -> None:
    hub = hub_of(Stored({}))
    many = [Series(one, "a", {}) for one in range(600)]
    with hub.joined(key("a"), "lossless") as (first, _):
        hub.learn(first, many)
        hub.learn(first, many)  # whoever follows the same takes no more
        with (
            hub.joined(key('a{b=""}'), "lossless") as (second, _),
            hub.joined(key("a", 2), "lossless") as (theirs, _),
        ):
            hub.learn(theirs, many)
            with pytest.raises(QueryTooBroad, match="1000 series"):
                hub.learn(second, many)
    with hub.joined(key('a{b=""}'), "lossless") as (second, _):
        hub.learn(second, many)


async def test_matching_new_series_against_many_topics_yields_to_other_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hubs, "_MAX_HOLD_S", 0)
    hub, turns = hub_of(Stored(dict.fromkeys(range(1, 101), (1, "a")))), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    with hub.joined(key("a"), "lossless") as (topic, mailbox):
        hub.learn(topic, [])
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(others())
            await hub.apply(entry(1, 1, *((one, 10, 1.0) for one in range(1, 101))))
            other.cancel()
        assert len(told(mailbox)) == 100
    assert turns >= 50


async def test_the_last_viewer_to_leave_removes_the_topic() -> None:
    hub = hub_of(Stored({}))
    with hub.joined(key("a"), "lossless") as (one, _):
        with hub.joined(key("a"), "lossless") as (same, _):
            assert same is one
            assert hub.viewers == 2
        assert hub.has_viewers
    assert not hub.has_viewers


async def test_the_position_names_the_writers_of_the_replay_window_only() -> None:
    hub = Hub(EPOCH, Stored({}).names_of, timedelta(minutes=10), max_tenant_series=1_000)
    hub.start(HubStart(WriterPositions({1: 5, 2: 9}, START_US), [2], np.empty(0, np.int64), []))
    assert hub.position().seqs == {2: 9}
    await hub.apply(entry(3, 1, at_us=START_US + US))
    assert hub.position().seqs == {2: 9, 3: 1}
    hub.at_us = START_US + 601 * US
    assert hub.position().seqs == {3: 1}


async def test_a_stopping_server_closes_every_mailbox() -> None:
    hub = hub_of(Stored({}))
    with hub.joined(key("a"), "lossless") as (_, mailbox):
        hub.close()
        with hub.joined(key("b"), "lossless") as (_, late):
            assert (mailbox.is_whole, late.is_whole) == (False, False)


SAMPLES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3), st.floats(0, 9)), max_size=12)


@given(st.lists(st.sets(st.integers(1, 6)), max_size=6), SAMPLES)
def test_the_index_gives_every_topic_exactly_its_samples(
    wanted: list[set[int]], samples: list[Told]
) -> None:
    every = []
    for ids in wanted:
        topic = Topic(key("m"))
        topic.learn([Series(one, "m", {}) for one in ids])
        every.append(topic)
    given_ = {id(topic): part for topic, part in Index(every).parts_of(columns(*samples))}
    for topic, ids in zip(every, wanted, strict=True):
        part = given_.get(id(topic), OwnPart(Columns.empty()))
        expected = columns(*(sample for sample in samples if sample[0] in ids))
        assert merge([part.columns]) == merge([expected])
        assert part.json == encode_samples(expected)
        assert len(part) == len(part.columns)


@given(st.permutations(range(6)), SAMPLES)
def test_in_whatever_order_entries_come_the_last_arrival_wins(
    order: list[int], samples: list[Told]
) -> None:
    entries = [entry(n % 2, n, *samples[n::6], at_us=START_US + n // 2) for n in range(6)]
    arrived = sorted(entries, key=lambda one: (one.at_us, one.writer, one.seq))
    recent = RecentEntries()
    merged = merge(recent.add(entries[number]) for number in order)
    assert merged == merge(one.columns for one in arrived)


@given(st.lists(st.tuples(SAMPLES, st.booleans()), max_size=6))
def test_a_viewer_with_a_part_gets_the_rest(
    told_parts: list[tuple[list[Told], bool]],
) -> None:
    parts = [columns(*samples) for samples, _ in told_parts]
    is_known = [known for _, known in told_parts]
    known = [part for part, is_one in zip(parts, is_known, strict=True) if is_one]
    missed = unreplaced(parts, is_known)
    assert merge([*known, missed]) == merge(parts)
    assert len(missed) <= sum(map(len, parts)) - sum(map(len, known))


def merge(parts: Iterable[Columns]) -> dict[tuple[int, int], float]:
    """As a viewer does: the later frame wins."""
    return {
        (series_id, time): value
        for part in parts
        for series_id, time, value in zip(*(column.tolist() for column in part), strict=True)
    }


def test_old_arrivals_are_forgotten() -> None:
    recent = RecentEntries()
    recent.add(entry(1, 1, (1, 10, 1.0), at_us=START_US))
    recent.add(entry(1, 2, (1, 20, 1.0), at_us=START_US + RECENT_US + 1))
    assert len(recent._entries) == 1
    ids = np.zeros(MAX_SAMPLES, np.int64)
    for seq in range(3, 6):
        recent.add(Entry(1, seq, START_US + RECENT_US + seq, Columns(ids, ids, ids.astype(float))))
    assert recent._samples <= MAX_SAMPLES
