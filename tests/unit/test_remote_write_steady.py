"""Requests that repeat: read by the layout of one before them, and never otherwise than without."""

import struct
from collections.abc import Hashable, Sequence

import pytest
from decoding import nothing_known, told
from hypothesis import given
from hypothesis import strategies as st
from protobuf_wire import labels, sample, write_request

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.layouts import Layouts
from infrawatch.ingest.protocols.remote_write import version1
from infrawatch.ingest.protocols.remote_write.batch import Batch
from infrawatch.ingest.protocols.remote_write.steady import Steady, make_layout
from infrawatch.ingest.series_cache import SeriesCache, Space

NOON = 1_790_000_000_000
SPACE = Space(1, "remote_write_1")

Numbers = Sequence[tuple[float | None, int]]


def body_of(numbers: Numbers) -> bytes:
    """Some series with a sample each."""
    return write_request(
        *(
            labels(f"metric_{n}", host="web-1") + sample(value, time)
            for n, (value, time) in enumerate(numbers)
        )
    )


class Sender:
    """A sender of a running server: what it sent before is known."""

    def __init__(self) -> None:
        self._cache = SeriesCache(1 << 20)
        self.steady = Steady(self._cache.layouts, SPACE)

    def find(self, keys: Sequence[Hashable]) -> list[int | None]:
        return self._cache.find(SPACE, keys)

    def send(self, body: bytes) -> Batch:
        batch = self.steady.read(body)
        if batch is None:
            batch = version1.decode(body, self.find)
            self.steady.learn(body, batch, self.find)
            for number, key in enumerate(batch.decoded.keys):
                self._cache.add(SPACE, key, number + 1)
        return batch


def is_by_layout(batch: Batch) -> bool:
    return batch.decoded.ids is not None


def plainly(body: bytes) -> object:
    try:
        return told(version1.decode(body, nothing_known).decoded)
    except InfraWatchError as error:
        return type(error)


def test_the_second_of_its_kind_teaches_and_the_third_is_read_by_its_layout() -> None:
    sender = Sender()
    sent = [body_of([(1.5 * n, NOON + n), (None, NOON - n), (2.0, NOON)]) for n in range(1, 4)]

    batches = [sender.send(body) for body in sent]

    assert list(map(is_by_layout, batches)) == [False, False, True]
    assert told(batches[-1].decoded) == plainly(sent[-1])
    assert batches[-1].decoded.ids is not None
    assert batches[-1].decoded.ids.tolist() == [1, 2, 3]


def test_several_samples_of_a_series_are_read_by_layout_too() -> None:
    def body(n: int) -> bytes:
        samples = b"".join(sample(n + place / 3, NOON + place) for place in range(5))
        return write_request(labels("a", x="1") + samples, labels("b") + sample(1.0, NOON + n))

    sender = Sender()
    batches = [sender.send(body(n)) for n in range(3)]

    assert is_by_layout(batches[-1])
    assert told(batches[-1].decoded) == plainly(body(2))


def test_another_series_of_the_same_length_is_read_anew() -> None:
    sender = Sender()
    for _ in range(3):
        sender.send(write_request(labels("a") + sample(1.0, NOON), labels("b") + sample(2.0, NOON)))

    body = write_request(labels("a") + sample(1.0, NOON), labels("c") + sample(2.0, NOON))

    assert not is_by_layout(sender.send(body))
    assert told(sender.send(body).decoded) == plainly(body)


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (b"", []),
        (b"", [b""]),
        (b"\x0a\x80\x00", [b""]),
        (b"\x0a\x92\x00" + sample(1.0, NOON), [b""]),
        (write_request(labels("a")), [labels("a")]),
        (write_request(labels("a") + sample(1.0, 5)), [labels("a")]),
        (write_request(labels("a") + sample(1.0, NOON, NOON)), [labels("a")]),
        (write_request(labels("a") + 2 * sample(None, NOON)), [labels("a")]),
        (write_request(labels("a") + sample(1.0, NOON)) + b"\x1a\x00", [labels("a")]),
        (write_request(labels("a") + sample(1.0, NOON)) + b"\x1a\x00", [labels("a"), b""]),
        (write_request(labels("a") + sample(1.0, NOON)), [labels("b")]),
        (write_request(sample(1.0, NOON) + labels("a")), [labels("a")]),
    ],
)
def test_what_is_of_another_form_has_no_layout(body: bytes, keys: list[bytes]) -> None:
    assert make_layout(body, keys, [1] * len(keys)) is None


@given(
    numbers=st.lists(
        st.tuples(st.floats(), st.integers(NOON - 10**9, NOON + 10**9)), min_size=1, max_size=4
    ),
    data=st.data(),
)
def test_a_body_that_differs_anywhere_is_read_as_without_a_layout(
    numbers: Numbers, data: st.DataObject
) -> None:
    sender = Sender()
    body = body_of(numbers)
    for _ in range(3):
        sender.send(body)
    assert sender.steady.read(body) is not None

    changed = bytearray(body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=3)):
        changed[place] = data.draw(st.integers(0, 255))
    batch = sender.steady.read(bytes(changed))

    if batch is not None:
        assert told(batch.decoded) == plainly(bytes(changed))


def test_every_bit_of_a_value_arrives() -> None:
    sender = Sender()
    [stale] = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))
    batches = [sender.send(body_of([(value, NOON)])) for value in (1.0, 2.0, stale)]

    assert is_by_layout(batches[-1])
    assert batches[-1].decoded.values.tobytes() == struct.pack("<Q", 0x7FF0000000000002)


def test_layouts_are_bounded_and_the_used_ones_stay() -> None:
    cache = SeriesCache(64 * 1024)
    steady = Steady(cache.layouts, SPACE)
    used = body_of([(1.0, NOON)] * 10)

    def learn(body: bytes) -> None:
        batch = version1.decode(body, all_known)
        for _ in range(2):
            steady.learn(body, batch, all_known)

    learn(used)
    for host in range(200):
        learn(write_request(labels("m", host=f"{host:0200}") + sample(1.0, NOON)))
        assert steady.read(used) is not None
    assert held_bytes(cache.layouts) < 64 * 1024 / 4


def all_known(keys: Sequence[object]) -> list[int | None]:
    return [1] * len(keys)


def held_bytes(layouts: Layouts) -> int:
    return sum(one.mask.nbytes + len(one.constant) for one in layouts._layouts.values())
