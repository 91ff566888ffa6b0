"""Mailboxes and the updates in them."""

import asyncio
import json
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.live.bus import pack, unpack
from infrawatch.live.mailbox import MAX_SAMPLES, MAX_UPDATES, SHARED_UPDATES, Mailbox
from infrawatch.live.schemas import Update as UpdateFrame
from infrawatch.live.subscription import _FrameBuilder
from infrawatch.live.topic import Topic, TopicKey
from infrawatch.live.update import (
    FEW,
    EntrySamples,
    OwnPart,
    Position,
    SharedPart,
    Update,
    encode_samples,
    folded,
    joined,
)
from infrawatch.model.cursor import Cursor
from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.model.selector import parse_selector
from infrawatch.store.journal import Entry

EPOCH = UUID(int=1)


def samples(*values: float, series_id: int = 1, from_us: int = 0) -> Columns:
    times = from_us + 1000 * np.arange(len(values))
    return Columns(np.full(len(values), series_id), times, np.array(values, float))


def update(seq: int, columns: Columns, writer: int = 1) -> Update:
    return Update({writer: seq}, OwnPart(columns), Position(EPOCH, 1_000 * seq, {writer: seq}))


async def test_updates_are_taken_in_the_order_they_were_put() -> None:
    mailbox = Mailbox("lossless")
    one, two = update(1, samples(1)), update(2, samples(2))
    mailbox.put(one)
    mailbox.put(two)
    await mailbox.wait()
    assert list(mailbox.take()) == [one, two]
    assert mailbox.is_empty
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.wait(), 0.01)


def test_old_updates_keep_no_samples_of_other_topics_in_memory() -> None:
    mailbox = Mailbox("lossless")
    batch = EntrySamples(Columns.joined([samples(1, series_id=1), samples(2, 3, series_id=2)]))
    updates = [
        Update({1: seq}, SharedPart(batch, [1], 2), Position(EPOCH, seq, {1: seq}))
        for seq in range(SHARED_UPDATES + 2)
    ]
    text = updates[0].part.json
    for one in updates:
        mailbox.put(one)
    kinds = [type(one.part) for one in mailbox.take()]
    assert kinds == [OwnPart, OwnPart] + [SharedPart] * SHARED_UPDATES
    assert [one.part.json for one in updates] == [text] * len(updates)
    assert json.loads(text) == {"2": [[0, 2], [1, 3]]}


def test_many_small_updates_become_one_and_nothing_is_lost() -> None:
    mailbox = Mailbox("lossless")
    for seq in range(1, 3 * MAX_UPDATES):
        mailbox.put(update(seq, samples(seq, from_us=1000 * seq)))
    waiting = mailbox.take()
    assert mailbox.is_whole
    assert len(waiting) <= MAX_UPDATES
    every = joined(waiting)
    assert every.part.columns.values.tolist() == list(range(1, 3 * MAX_UPDATES))
    assert every.reached == {1: 3 * MAX_UPDATES - 1}
    assert every.coalesced == 0


def test_too_many_samples_are_lost_until_the_next_snapshot() -> None:
    mailbox = Mailbox("lossless")
    mailbox.put(update(1, samples(*range(MAX_SAMPLES))))
    mailbox.put(update(2, samples(1)))
    mailbox.put(update(3, samples(1)))
    assert not mailbox.is_whole
    assert mailbox.take() == []
    assert mailbox.restart() == "slow_viewer"
    mailbox.put(update(4, samples(4)))
    assert [one.reached for one in mailbox.take()] == [{1: 4}]


def test_latest_has_the_newest_of_each_series_and_the_number_of_the_others() -> None:
    mailbox = Mailbox("latest")
    half = MAX_SAMPLES // 2
    for seq in (1, 2, 3):
        mailbox.put(update(seq, samples(*range(half), series_id=seq % 2, from_us=seq)))
    [only] = mailbox.take()
    assert mailbox.is_whole
    assert only.part.columns.values.tolist() == [half - 1, half - 1]
    assert only.coalesced == 3 * half - 2
    assert only.reached == {1: 3}


async def test_a_closed_mailbox_always_wakes_waiters() -> None:
    mailbox = Mailbox("lossless")
    mailbox.put(update(1, samples(1)))
    mailbox.close()
    for _ in range(2):
        await mailbox.wait()
        assert mailbox.take() == []
        mailbox.put(update(2, samples(1)))
    assert mailbox.is_closed


def test_an_update_is_within_a_snapshot_that_has_all_of_it() -> None:
    both = joined([update(3, samples(1), writer=1), update(7, samples(1), writer=2)])
    assert both.is_within({1: 3, 2: 8})
    assert not both.is_within({1: 3, 2: 6})
    assert not both.is_within({1: 3})


def test_updates_contained_in_a_snapshot_are_left_out_up_to_the_first_new_one() -> None:
    topic = Topic(TopicKey(1, parse_selector("m")))
    frame_builder = _FrameBuilder("a", topic)
    seqs = {1: 6, 2: 5}
    had = update(5, samples(1), writer=2)
    assert list(frame_builder.update_frames([had], seqs)) == []

    earlier = update(7, samples(0), writer=1)  # arrived before `had`, and was committed after it
    [frame] = frame_builder.update_frames([had, earlier, had], seqs)
    assert UpdateFrame.model_validate_json(frame).samples == {"1": [(0, 1.0)]}


def test_folding_adds_to_earlier_counts_of_samples_left_out() -> None:
    first = folded([update(1, samples(1, 2, 3))])
    assert (first.part.columns.values.tolist(), first.coalesced) == ([3], 2)
    again = folded([first, update(2, samples(4, from_us=5000))])
    assert (again.part.columns.values.tolist(), again.coalesced) == ([4], 3)


def test_samples_are_by_series_by_time_and_the_last_arrival_wins() -> None:
    stale = np.array([STALE_NAN_BITS]).view(np.float64)[0]
    columns = Columns(
        np.array([2, 1, 1, 1]), np.array([5000, 9000, 3000, 9000]), np.array([stale, 1, 2, np.inf])
    )
    assert json.loads(encode_samples(columns)) == {"1": [[3, 2], [9, "+Inf"]], "2": [[5, None]]}


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 3000), st.floats()), max_size=FEW, min_size=1
    )
)
def test_few_samples_are_encoded_like_many(told: list[tuple[int, int, float]]) -> None:
    ids, times, values = zip(*told, strict=True)
    few = Columns(np.array(ids), np.array(times), np.array(values, float))
    # Copies of all of them, earlier: the same samples are the last to arrive.
    many = Columns.joined([few] * (FEW // len(few) + 1))
    assert len(many) > FEW
    assert encode_samples(few) == encode_samples(many)


def test_a_frame_of_shared_parts_equals_the_output_of_its_model() -> None:
    one = update(1, samples(1, 2))
    text = f'{{"type":"update","id":"a","cursor":"{one.position.text}","samples":{one.part.json}}}'
    frame = UpdateFrame.model_validate_json(text)
    assert frame.model_dump_json(exclude_none=True) == text
    assert Cursor.from_text(frame.cursor) == Cursor(EPOCH, 1_000, {1: 1})


def test_an_entry_survives_the_bus_bit_for_bit() -> None:
    nan = np.array([STALE_NAN_BITS, 0x7FF8000000000001]).view(np.float64)
    entry = Entry(1, 2**40, 3, Columns(np.array([1, 2**62]), np.array([-5, 6]), nan))
    again = unpack(pack(entry))
    assert again[:3] == entry[:3]
    for sent, got in zip(entry.columns, again.columns, strict=True):
        assert sent.tobytes() == got.tobytes()


@pytest.mark.parametrize(
    "message",
    [b"", b"x" * 31, b"\xff" * 32, b"\xff" * 56, pack(Entry(1, 1, 1, samples(1)))[:-1], "text", 7],
)
def test_a_message_that_is_no_entry_is_refused(message: object) -> None:
    with pytest.raises(ValueError, match="entry"):
        unpack(message)
