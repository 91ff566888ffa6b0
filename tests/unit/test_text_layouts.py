"""Text bodies that fit the layout of an earlier one give the same result as without layouts."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from decoding import content_of, nothing_known
from hypothesis import given, settings
from hypothesis import strategies as st

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.native.decode import decode_json
from infrawatch.ingest.protocols.influx.decode import decode as decode_lines
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.layouts import Layouts

NOON = 1_790_000_000_000
SERIES = 20
SPACE = KeySpace(1, "some format")

Numbers = Sequence[tuple[int, float]]
"""Time and value of a sample of each series."""


class Format(NamedTuple):
    decode: Callable[[bytes, Find, Layouts | None], Decoded]
    to_body: Callable[[Numbers], bytes]

    def plainly(self, body: bytes) -> object:
        """What a body says when nothing is known."""
        try:
            return content_of(self.decode(body, nothing_known, None))
        except InfraWatchError as error:
            return type(error)


def to_lines(numbers: Numbers) -> bytes:
    return b"".join(
        b"cpu,host=web-%d,a=] idle=%r %d\n" % (number, value, time)
        for number, (time, value) in enumerate(numbers)
    )


def to_json(numbers: Numbers) -> bytes:
    series = (
        b'{"metric":"cpu","labels":{"host":"web-%d]"},"samples":[[%d,%r],[%d,1]]}'
        % (number, time, value, time + 1)
        for number, (time, value) in enumerate(numbers)
    )
    return b'{"series":[' + b",".join(series) + b"]}"


LINES = Format(
    lambda body, find, layouts: decode_lines(body, 1_000_000, NOON * 1_000_000, find, layouts),
    to_lines,
)
JSON = Format(lambda body, find, layouts: decode_json(body, "ms", find, layouts), to_json)
both_formats = pytest.mark.parametrize("sent", [LINES, JSON])


class Sender:
    """A sender of a running server: what it sent before is known."""

    def __init__(self, sent: Format) -> None:
        self._cache = SeriesCache(1 << 20)
        self._decode = sent.decode

    def find(self, keys: Sequence[Hashable]) -> list[int | None]:
        return self._cache.find(SPACE, keys)

    def send(self, body: bytes) -> Decoded:
        decoded = self._decode(body, self.find, Layouts(self._cache.layouts, SPACE))
        new = [key for key in dict.fromkeys(decoded.keys) if self.find([key]) == [None]]
        for number, key in enumerate(new):
            self._cache.add(SPACE, key, number + 1)
        if decoded.learn:
            ids = np.array(self.find(decoded.keys), np.int64)
            decoded.learn(ids, are_new=2 * len(new) > len(ids))
        return decoded


def numbers_of(value: float) -> Numbers:
    return [(NOON + place, value + place) for place in range(SERIES)]


@both_formats
def test_the_layout_of_a_body_with_new_series_is_learnt_for_the_next(sent: Format) -> None:
    sender = Sender(sent)
    bodies = [sent.to_body(numbers_of(value)) for value in (0.5, 12.25)]

    decoded = [sender.send(body) for body in bodies]

    assert [one.ids is not None for one in decoded] == [False, True]
    assert content_of(decoded[-1]) == sent.plainly(bodies[-1])
    assert decoded[-1].ids is not None
    assert decoded[-1].ids.tolist() == list(range(1, SERIES + 1))


@both_formats
def test_the_second_body_of_known_series_is_learnt(sent: Format) -> None:
    sender = Sender(sent)
    sender.send(sent.to_body([*numbers_of(0.5), (NOON, 1.0)]))

    decoded = [sender.send(sent.to_body(numbers_of(value))) for value in (0.5, 12.25, -3.0)]

    assert [one.ids is not None for one in decoded] == [False, False, True]


def test_several_lines_of_a_series_are_read_by_layout_too() -> None:
    def body(value: int) -> bytes:
        return b"".join(b"cpu,host=%d idle=%d %d\n" % (n // 10, value, n) for n in range(20, 60))

    sender = Sender(LINES)
    decoded = [sender.send(body(value)) for value in range(3)]

    assert decoded[-1].ids is not None
    assert decoded[-1].counts.tolist() == [10, 10, 10, 10]
    assert content_of(decoded[-1]) == LINES.plainly(body(2))


@both_formats
@given(data=st.data())
def test_a_body_that_differs_anywhere_is_read_as_without_layouts(
    sent: Format, data: st.DataObject
) -> None:
    sender = Sender(sent)
    body = sent.to_body(numbers_of(0.5))
    for _ in range(3):
        sender.send(body)

    changed = bytearray(body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=3)):
        changed[place] = data.draw(st.sampled_from(b'0123456789.-=, \n[]{}":e\x00\xffa'))

    try:
        found: object = content_of(sender.send(bytes(changed)))
    except InfraWatchError as error:
        found = type(error)
    assert found == sent.plainly(bytes(changed))


@both_formats
@given(data=st.data())
def test_a_series_in_the_place_of_another_is_read_as_without_layouts(
    sent: Format, data: st.DataObject
) -> None:
    sender = Sender(sent)
    body = sent.to_body(numbers_of(0.5))
    for _ in range(3):
        sender.send(body)

    pieces = body.split(b"},{" if sent is JSON else b"\n")
    places = st.integers(1, SERIES - 2)
    pieces[data.draw(places)] = pieces[data.draw(places)]
    changed = (b"},{" if sent is JSON else b"\n").join(pieces)

    assert content_of(sender.send(changed)) == sent.plainly(changed)


def test_a_line_of_numbers_alone_is_no_sample() -> None:
    sender = Sender(LINES)
    body = LINES.to_body(numbers_of(0.5))
    for _ in range(4):
        sender.send(body)
    lines = body.split(b"\n")
    lines[3] = lines[3].rpartition(b"=")[2]

    decoded = sender.send(b"\n".join(lines))

    assert [one.code for one in decoded.verdicts] == ["malformed_line"]


KEYS = [
    b"m v",
    b"cpu,host=a idle",
    b"m,x=" + 40 * b"x" + b" v",
    b"m,x=" + 90 * b"y" + b" v",
    b"a\\ b v",
]
TIMES = [b"1790000000000"] * 9 + [b"1790000000", b"", b"-5", b"1790000000000\r", 19 * b"9"]
VALUES = [
    *(
        b"1",
        b"0.5",
        b"-7.25",
        b"-0",
        b"-0.0",
        b"1e5",
        b"1E-5",
        b"1.",
        b".5",
        b"007",
        b"1.2.3",
        b"-",
    ),
    *(b"12345678901234567890", b"0.1234567890123456789", b"1e999", b"nan", b"4.9e-324", b"", b"+1"),
    *(b"42i", b"7u", b"true", b'"a b"', b'"a\nb=1 5"', b"1,w=2", b" 1", b"1 ", b"1_0", b"v=1"),
]
ODD_LINES = [
    b"",
    b"# comment",
    b"m",
    b"m v",
    b"m v=",
    b"=1 5",
    b"m,x=1\\ 2 v=1 5",
    b'm v="x" 5',
    b"\r",
]


@given(data=st.data())
@settings(max_examples=500)
def test_lines_of_any_form_are_read_as_without_layouts(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(KEYS), min_size=20, max_size=30))
    lines = [b"%b=%d.5 %d" % (key, n, NOON + n) for n, key in enumerate(keys)]
    sender = Sender(LINES)
    known = [sender.send(b"\n".join(lines)) for _ in range(3)]
    assert known[-1].ids is not None
    for place in data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=3)):
        key = data.draw(st.just(keys[place]) | st.sampled_from(KEYS))
        value, time = data.draw(st.sampled_from(VALUES)), data.draw(st.sampled_from(TIMES))
        lines[place] = data.draw(
            st.sampled_from(ODD_LINES) | st.just(b"%b=%b %b" % (key, value, time))
        )
    body = b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]))

    assert content_of(sender.send(body)) == LINES.plainly(body)
