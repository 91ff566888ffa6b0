"""Requests that repeat: read by the layout of one before them, and never otherwise than without."""

import struct
from collections.abc import Callable, Hashable, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from decoding import Content, content_of, nothing_known
from hypothesis import given
from hypothesis import strategies as st
from protobuf_wire import Table, bytes_field, labels, sample, write_request

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.protocols.remote_write import version1, version2
from infrawatch.ingest.protocols.remote_write.batch import Batch
from infrawatch.ingest.protocols.remote_write.layouts import (
    learner,
    make_layout,
    read_by_layout,
)
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.layouts import Layouts

NOON = 1_790_000_000_000

Numbers = Sequence[tuple[float | None, int]]


class Version(NamedTuple):
    """A version of remote write, and a request of it: some series with a sample each."""

    module: ModuleType
    body_of: Callable[[Numbers], bytes]

    def plainly(self, body: bytes) -> object:
        """What a body says when nothing is known."""
        try:
            return without_metadata(self.module.decode(body, nothing_known))
        except InfraWatchError as error:
            return type(error)


def first_body(numbers: Numbers) -> bytes:
    return write_request(
        *(
            labels(f"metric_{n}", host="web-1") + sample(value, time)
            for n, (value, time) in enumerate(numbers)
        )
    )


def second_body(numbers: Numbers) -> bytes:
    """Some series have a start time, some metadata."""
    table = Table()
    series = [
        table.labels(f"metric_{n}", host="web-1")
        + sample(value, time, NOON if n % 2 else None)
        + (table.metadata(1, "Is it", "s") if n % 3 else b"")
        for n, (value, time) in enumerate(numbers)
    ]
    return table.request(*series)


FIRST, SECOND = Version(version1, first_body), Version(version2, second_body)
ONE_SERIES = write_request(labels("a") + sample(1.0, NOON))
both_versions = pytest.mark.parametrize("version", [FIRST, SECOND])


class Sender:
    """A sender of a running server: what it sent before is known."""

    def __init__(self, version: Version) -> None:
        self._module = version.module
        self._space = KeySpace(1, version.module.__name__)
        self._cache = SeriesCache(1 << 20)
        self._layouts = Layouts(self._cache.layouts, self._space)

    def find(self, keys: Sequence[Hashable]) -> list[int | None]:
        return self._cache.find(self._space, keys)

    def read_by_layout(self, body: bytes | memoryview) -> Batch | None:
        return read_by_layout(body, self._layouts, self._module.WIRE_FORMAT)

    def send(self, body: bytes) -> Batch:
        batch = self.read_by_layout(memoryview(body))  # as inflated from snappy
        if batch is None:
            batch = self._module.decode(body, self.find)
            assert batch is not None
            keys = batch.decoded.keys
            new = self.find(keys).count(None)
            for number, key in enumerate(keys):
                self._cache.add(self._space, key, number + 1)
            batch.decoded.learn = learner(body, batch, self._layouts, self._module.WIRE_FORMAT)
            if batch.decoded.learn:
                ids = np.array(self.find(keys), np.int64)
                batch.decoded.learn(ids, are_new=2 * new > len(keys))
        return batch


def is_by_layout(batch: Batch) -> bool:
    return batch.decoded.ids is not None


def without_metadata(batch: Batch) -> Content:
    """Series that were stored before are not reported again."""
    return content_of(batch.decoded)._replace(metadata={})


@both_versions
def test_the_layout_of_a_body_with_new_series_is_learnt_for_the_next(
    version: Version,
) -> None:
    sender = Sender(version)
    sent = [
        version.body_of([(1.5 * n, NOON + n), (None, NOON - n), (2.0, NOON)]) for n in range(1, 3)
    ]

    batches = [sender.send(body) for body in sent]

    assert list(map(is_by_layout, batches)) == [False, True]
    assert without_metadata(batches[-1]) == version.plainly(sent[-1])
    assert batches[-1].decoded.ids is not None
    assert batches[-1].decoded.ids.tolist() == [1, 2, 3]


@both_versions
def test_the_second_body_of_known_series_is_learnt(version: Version) -> None:
    sender = Sender(version)
    sender.send(version.body_of([(1.0, NOON)] * 4))

    batches = [sender.send(version.body_of([(1.0, NOON + n)] * 3)) for n in range(3)]

    assert list(map(is_by_layout, batches)) == [False, False, True]


def test_several_samples_of_a_series_are_read_by_layout_too() -> None:
    def body(n: int) -> bytes:
        samples = b"".join(sample(n + place / 3, NOON + place) for place in range(5))
        return write_request(labels("a", x="1") + samples, labels("b") + sample(1.0, NOON + n))

    sender = Sender(FIRST)
    batches = [sender.send(body(n)) for n in range(3)]

    assert is_by_layout(batches[-1])
    assert without_metadata(batches[-1]) == FIRST.plainly(body(2))


def test_series_of_any_size_are_found_behind_metadata() -> None:
    many = [labels(f"m{n}") + n * sample(1.0, NOON) for n in (1, 20, 1_000, 1)]
    body = write_request(metadata=[bytes_field(2, b"m1")]) + write_request(*many)
    sender = Sender(FIRST)

    batches = [sender.send(body) for _ in range(2)]

    assert list(map(is_by_layout, batches)) == [False, True]
    assert without_metadata(batches[-1]) == FIRST.plainly(body)


def test_another_series_of_the_same_length_is_read_anew() -> None:
    sender = Sender(FIRST)
    for _ in range(3):
        sender.send(write_request(labels("a") + sample(1.0, NOON), labels("b") + sample(2.0, NOON)))

    body = write_request(labels("a") + sample(1.0, NOON), labels("c") + sample(2.0, NOON))

    assert not is_by_layout(sender.send(body))
    assert without_metadata(sender.send(body)) == FIRST.plainly(body)


def test_other_texts_in_a_table_of_the_same_length_are_read_anew() -> None:
    def body(host: str) -> bytes:
        table = Table()
        return table.request(table.labels("up", host=host) + sample(1.0, NOON))

    sender = Sender(SECOND)
    for _ in range(3):
        sender.send(body("a"))

    assert not is_by_layout(sender.send(body("b")))
    assert without_metadata(sender.send(body("b"))) == SECOND.plainly(body("b"))


def test_verdicts_on_metadata_are_repeated_with_every_request() -> None:
    table = Table()
    body = table.request(table.labels("up") + sample(1.0, NOON) + bytes_field(5, b"\x18\x63"))
    sender = Sender(SECOND)

    batches = [sender.send(body) for _ in range(4)]

    found = [(one.code, one.detail) for one in batches[-1].decoded.verdicts]
    assert found == [("malformed_metadata", "unit and help are places in `symbols`")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0a\x92\x00" + sample(1.0, NOON),
        write_request(sample(None, NOON)),
        write_request(labels("a")),
        write_request(labels("a") + sample(1.0, 5)),
        write_request(labels("a") + sample(None, NOON) + sample(1.0, NOON)),
        ONE_SERIES + bytes_field(15, ONE_SERIES),
        ONE_SERIES + b"\x1a\x00",
        ONE_SERIES + b"\x0a\xa1\x00" + ONE_SERIES[2:] + ONE_SERIES,
        write_request(labels("a")) + ONE_SERIES,
        write_request(sample(1.0, NOON) + labels("a")),
        write_request(labels("a") + sample(1.0, NOON) + bytes_field(3, b"")),
    ],
)
def test_a_body_of_another_form_has_no_layout(body: bytes) -> None:
    batch = version1.decode(body, nothing_known)
    keys = [labels("a")] * len(batch.decoded.keys)
    ids = np.ones(len(keys), np.int64)

    assert not batch.outline or not make_layout(
        version1.WIRE_FORMAT, body, batch.outline, keys, ids
    )


@both_versions
@given(
    numbers=st.lists(
        st.tuples(st.floats(), st.integers(NOON - 10**9, NOON + 10**9)), min_size=1, max_size=4
    ),
    data=st.data(),
)
def test_a_body_that_differs_anywhere_is_read_as_without_a_layout(
    version: Version, numbers: Numbers, data: st.DataObject
) -> None:
    sender = Sender(version)
    body = version.body_of(numbers)
    for _ in range(3):
        sender.send(body)
    assert sender.read_by_layout(body) is not None

    changed = bytearray(body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=3)):
        changed[place] = data.draw(st.integers(0, 255))
    batch = sender.read_by_layout(bytes(changed))

    if batch is not None:
        assert without_metadata(batch) == version.plainly(bytes(changed))


@both_versions
@given(
    st.lists(
        st.tuples(st.none() | st.floats(), st.integers(1 << 35, (1 << 42) - 1)),
        min_size=1,
        max_size=4,
    )
)
def test_a_layout_reads_every_time_and_value(version: Version, numbers: Numbers) -> None:
    sender = Sender(version)
    for _ in range(3):
        sender.send(version.body_of(numbers))
    batch = sender.read_by_layout(version.body_of(numbers))

    assert batch is not None
    assert batch.decoded.times.tolist() == [time for _, time in numbers]
    values = np.array([value or 0.0 for value, _ in numbers])
    assert np.array_equal(batch.decoded.values, values, equal_nan=True)


@both_versions
def test_every_bit_of_a_value_arrives(version: Version) -> None:
    sender = Sender(version)
    [stale] = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))
    batches = [sender.send(version.body_of([(value, NOON)])) for value in (1.0, 2.0, stale)]

    assert is_by_layout(batches[-1])
    assert batches[-1].decoded.values.tobytes() == struct.pack("<Q", 0x7FF0000000000002)


def test_layouts_are_bounded_and_the_used_ones_stay() -> None:
    cache = SeriesCache(64 * 1024)
    layouts = Layouts(cache.layouts, KeySpace(1, "some format"))
    used = first_body([(1.0, NOON)] * 10)

    def learn(body: bytes) -> None:
        batch = version1.decode(body, nothing_known)
        batch.decoded.learn = learner(body, batch, layouts, version1.WIRE_FORMAT)
        assert batch.decoded.learn is not None
        batch.decoded.learn(np.ones(len(batch.decoded.keys), np.int64), are_new=True)

    learn(used)
    for host in range(200):
        learn(write_request(labels("m", host=f"{host:0200}") + sample(1.0, NOON)))
        assert read_by_layout(used, layouts, version1.WIRE_FORMAT) is not None
    assert cache.layouts._held_bytes < 64 * 1024 / 4
