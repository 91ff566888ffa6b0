"""Remote write 1.0, read: vectors made by hand, and what holds for any request."""

import struct
from contextlib import suppress

import pytest
from caching_decoder import CachingDecoder
from decoding import Content, content_of, nothing_known
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from protobuf_wire import (
    Field,
    bits_field,
    bytes_field,
    double_field,
    label,
    labels,
    number_field,
    read_fields,
    read_sample,
    sample,
    varint,
    write_request,
)
from stored import named

from infrawatch.errors import BatchTooLarge, InfraWatchError, MalformedBody
from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.protocols.remote_write import version1
from infrawatch.ingest.protocols.remote_write.labels import read_name, to_text
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS
from infrawatch.store.metadata import Metadata

NOON = 1_790_000_000_000
ENDLESS_TIME = double_field(1, 1.0) + b"\x10" + b"\x80" * 6
LATER_TIME = double_field(1, 1.0) + b"\x10\x05" + b"\x80" * 4 + b"\x01"
"""Of usual length; the one breaks off, the other goes on with a field that breaks off."""

ONE, TWO = struct.pack("<d", 1.0), struct.pack("<d", 2.0)


def decode(body: bytes, find: Find) -> Decoded:
    return version1.decode(body, find).decoded


def tell(body: bytes) -> Content:
    return content_of(decode(body, nothing_known))


def test_a_request_is_read_as_the_specification_has_it() -> None:
    body = bytes.fromhex(
        "0a 2a"  # timeseries, 42 bytes
        "0a 0e 0a 08 5f5f6e616d655f5f 12 02 7570"  # __name__="up"
        "0a 06 0a 01 61 12 01 62"  # a="b"
        "12 10 09 000000000000f03f 10 80d8c1a28c34"  # 1.0 at 1790000000000
    )

    assert tell(body).series == [(named("up", a="b"), [(NOON, ONE)])]


def test_omitted_fields_are_zero() -> None:
    body = write_request(
        labels("a") + sample(None, NOON),
        labels("b") + sample(1.0, None),
        labels("c") + sample(),
    )

    assert tell(body).series == [
        (named("a"), [(NOON, bytes(8))]),
        (named("b"), [(0, ONE)]),
        (named("c"), [(0, bytes(8))]),
    ]


def test_times_before_1970_and_far_from_now_are_read() -> None:
    times = [-1, -(2**63), 2**63 - 1, 2**35, 2**35 - 1, 2**42, 2**42 - 1]
    body = write_request(labels("up") + b"".join(sample(1.0, time_ms) for time_ms in times))

    assert tell(body).series == [(named("up"), [(time_ms, ONE) for time_ms in times])]


@pytest.mark.parametrize("times", [1, 2, 60])
def test_every_bit_of_a_value_is_kept(times: int) -> None:
    special = [STALE_NAN_BITS, 0x7FF8_0000_0000_0001, 0xFFF8_DEAD_BEEF_0001, 1 << 63, 1]
    fields = [
        bytes_field(2, bits_field(1, bits) + number_field(2, NOON + bits % 7)) for bits in special
    ]
    body = write_request(*(labels("up", n=str(n)) + one * times for n, one in enumerate(fields)))

    kept = [value for _, samples in tell(body).series for _, value in samples]

    assert kept == [struct.pack("<Q", bits) for bits in special for _ in range(times)]


def test_labels_may_come_in_any_order_and_around_the_samples() -> None:
    name, job = label(b"__name__", b"up"), label(b"job", b"x")
    body = write_request(
        job + name + sample(1.0, NOON),
        sample(1.0, NOON) + name + job,
        name + sample(1.0, NOON) + job + sample(2.0, NOON + 1),
    )

    assert tell(body).series == [
        (named("up", job="x"), [(NOON, ONE)]),
        (named("up", job="x"), [(NOON, ONE)]),
        (named("up", job="x"), [(NOON, ONE), (NOON + 1, TWO)]),
    ]


def test_the_last_of_duplicate_fields_counts() -> None:
    twice = double_field(1, 1.0) + number_field(2, 5) + double_field(1, 2.0) + number_field(2, NOON)
    body = write_request(labels("up") + bytes_field(2, twice))

    assert tell(body).series == [(named("up"), [(NOON, TWO)])]


def test_unknown_fields_are_skipped() -> None:
    unknown = number_field(9, 1) + bytes_field(10, b"more") + double_field(11, 1.0)
    body = unknown + write_request(
        labels("up")
        + unknown
        + bytes_field(2, double_field(1, 1.0) + number_field(2, NOON) + unknown)
    )

    assert tell(body).series == [(named("up"), [(NOON, ONE)])]


def test_exemplars_are_counted() -> None:
    exemplar = bytes_field(3, label(b"trace_id", b"1") + double_field(2, 1.0))
    body = write_request(labels("up") + sample(1.0, NOON) + exemplar * 2)
    decoded = decode(body, nothing_known)

    assert decoded.exemplars == 2
    assert content_of(decoded).series == [(named("up"), [(NOON, ONE)])]


def test_a_series_without_samples_is_no_series() -> None:
    body = write_request(labels("a"), labels("b") + sample(1.0, NOON), b"")

    assert tell(body).series == [(named("b"), [(NOON, ONE)])]
    assert tell(body).wrong == []


def test_metadata_are_read() -> None:
    metadata = (
        bytes_field(2, b"up")
        + number_field(1, 1)
        + bytes_field(4, b"Is it?")
        + bytes_field(5, b"s")
    )
    body = write_request(metadata=[metadata, bytes_field(2, b"size") + number_field(1, 4)])

    assert tell(body).metadata == {
        "up": Metadata("counter", "s", "Is it?"),
        "size": Metadata("histogram"),
    }


def test_metadata_that_cannot_be_stored_is_reported_or_made_storable() -> None:
    long = bytes_field(2, b"up") + bytes_field(4, b"\x00\xff" + b"x" * 5_000) + number_field(1, 99)
    told_of = tell(write_request(metadata=[bytes_field(2, b"\x00"), long, b"\xff"]))

    assert told_of.metadata == {"up": Metadata("unknown", "", "\ufffd" + "x" * 1_023)}
    assert [code for _, _, code in told_of.wrong] == ["invalid_metric", "malformed_metadata"]
    assert told_of.rejected_samples == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (label(b"job", b"x"), "invalid_metric"),
        (b"", "invalid_metric"),
        (labels(""), "invalid_metric"),
        (labels("up\n"), "invalid_metric"),
        (label(b"__name__", b"\xff"), "invalid_metric"),
        (labels("u" * 201), "too_long"),
        (labels("up") + label(b"a", b"1") + label(b"a", b"2"), "duplicate_label"),
        (labels("up") + label(b"__name__", b"up"), "duplicate_label"),
        (labels("up") + label(b"\xc3", b"1"), "invalid_label_name"),
        (labels("up") + label(b"a\x00", b"1"), "invalid_label_name"),
        (labels("up", a="\x00"), "invalid_label_value"),
        (labels("up") + label(b"a", b"\xed\xa0\x80"), "invalid_label_value"),
        (labels("up", a="x" * 4_097), "too_long"),
        (labels("up", **{f"l{n}": "x" for n in range(65)}), "too_many_labels"),
        (bytes_field(1, b"\x0a"), "malformed_series"),
        (labels("up") + b"\x07", "malformed_series"),
        (labels("up") + bytes_field(2, ENDLESS_TIME), "malformed_series"),
        (labels("up") + bytes_field(2, LATER_TIME), "malformed_series"),
    ],
)
def test_a_bad_series_is_named_and_the_good_ones_are_read(fields: bytes, code: str) -> None:
    good = labels("good") + sample(1.0, NOON)
    body = write_request(good, fields + sample(1.0, NOON), good)

    told_of = tell(body)

    assert told_of.series == [(named("good"), [(NOON, ONE)])] * 2
    assert [(index, code) for index, _, code in told_of.wrong] == [(1, code)]
    assert told_of.rejected_samples == 1


def test_names_may_be_any_text() -> None:
    body = write_request(
        labels("http.server duration", **{"service.name": "a\nb", "empty": ""}) + sample(1.0, NOON)
    )

    assert tell(body).series == [
        (named("http.server duration", **{"service.name": "a\nb"}), [(NOON, ONE)])
    ]


def test_a_verdict_names_the_series_and_the_sample() -> None:
    body = write_request(labels("a") + sample(), labels("b", job='"x"') + sample() + sample(1.0))

    assert tell(body).pointers == [
        "series 0, sample 0 of a",
        'series 1, sample 0 of b{job="\\"x\\""}',
        'series 1, sample 1 of b{job="\\"x\\""}',
    ]


def test_an_unreadable_series_still_counts_as_a_position() -> None:
    broken = labels("up", host="a").replace(b"__name__\x12", b"__name__\x00")
    decoded = decode(write_request(broken + sample(1.0, NOON)), nothing_known)

    assert decoded.locate(0, 0) == (0, "series 0, sample 0")
    assert not isinstance(decoded.name_of(0), SeriesName)


@pytest.mark.parametrize(
    "body", [b"\x0a", b"\xff", b"{}", b"\x0a\x05abc", bytes_field(4, b"") + bytes_field(5, b"x")]
)
def test_a_malformed_request_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode(body, nothing_known)


def test_an_empty_request_is_one() -> None:
    assert tell(b"").series == []


def test_a_request_with_absurdly_many_series_is_refused_before_they_are_read() -> None:
    with pytest.raises(BatchTooLarge):
        decode(bytes_field(1, b"") * 50_001, nothing_known)


@pytest.mark.parametrize("field", [label(b"", b""), sample(), bytes_field(3, b"")])
def test_a_series_of_absurdly_many_fields_is_refused(field: bytes) -> None:
    body = write_request(labels("up") + field * 100_000 + number_field(9, 1))

    assert [code for _, _, code in tell(body).wrong] == ["malformed_series"]


def test_common_requests_are_never_read_field_by_field() -> None:
    """Neither when a series is new nor when it is known: that is what makes it cheap."""
    caching = CachingDecoder(decode)
    usual = [
        sample(1.0, NOON),
        sample(None, NOON),
        sample(1.0, NOON) * 60,
        sample(None, NOON) * 60,
        sample(1.0, NOON, NOON),
        sample(None, NOON, NOON),
    ]
    body = write_request(*(labels("up", n=str(n)) + one for n, one in enumerate(usual)))

    new = version1.decode(body, caching.find)
    caching.decode(body)
    known = version1.decode(body, caching.find)

    assert new.parsed == known.parsed == {}
    assert content_of(new.decoded) == content_of(known.decoded)


def test_a_known_key_is_never_found_in_the_middle_of_something_else() -> None:
    """What follows a known key is read as fields, whatever it looks like from its end."""
    caching = CachingDecoder(decode)
    known = labels("up")
    caching.decode(write_request(known + sample(1.0, NOON)))
    looks_like_two_samples = bytes_field(7, sample(1.0, NOON)[2:]) + sample(2.0, NOON + 1)

    assert caching.decode(write_request(known + looks_like_two_samples)).series == [
        (named("up"), [(NOON + 1, TWO)])
    ]


TEXTS = [b"a", b"b", b"", "ü".encode(), b"\x12\x10\x09", b"\x12\x07\x10", b"\xff", b"x" * 150]
TIMES = [NOON, NOON + 15_000, 0, -1, 5, 2**35 - 1, 2**42, -(2**63), 2**63 - 1]
UNKNOWN = [
    number_field(9, 1),
    bytes_field(8, b"\x12\x00"),
    double_field(15, 1.0),
    bytes_field(3, b""),
]


LOOKALIKES = [
    bytes_field(2, number_field(2, NOON) + double_field(1, 1.0)),
    bytes_field(2, double_field(1, 1.0) + number_field(9, NOON)),
    bytes_field(2, double_field(9, 1.0) + number_field(2, NOON)),
    bytes_field(2, double_field(1, 1.0) + number_field(2, NOON) + number_field(2, NOON + 1)),
    bytes_field(2, number_field(2, NOON) + number_field(2, NOON + 1)),
    bytes_field(2, double_field(1, 1.0) + number_field(2, 1) + bytes_field(9, b"abc")),
    bytes_field(2, bytes_field(9, b"12345")),
    bytes_field(9, double_field(1, 1.0) + number_field(2, NOON)),
]
"""As long as usual samples, and something else."""


@st.composite
def sample_fields(draw: DrawFn) -> bytes:
    if draw(st.booleans()):
        return sample(draw(st.sampled_from((None, 1.0, 2.5))), NOON + draw(st.integers(0, 9)))
    if draw(st.booleans()):
        return draw(st.sampled_from(LOOKALIKES))
    bits = st.integers(0, 2**64 - 1).map(lambda number: bits_field(1, number))
    times = st.sampled_from(TIMES).map(lambda number: number_field(2, number))
    starts = st.sampled_from(TIMES).map(lambda number: number_field(3, number))
    parts = draw(st.lists(bits | times | starts | st.sampled_from(UNKNOWN), max_size=4))
    return bytes_field(2, b"".join(parts))


@st.composite
def label_fields(draw: DrawFn) -> bytes:
    texts = st.sampled_from(TEXTS)
    return label(draw(texts), draw(texts))


@st.composite
def all_series(draw: DrawFn) -> bytes:
    named_label = label(b"__name__", draw(st.sampled_from((b"up", b"down"))))
    first = [named_label, *draw(st.lists(label_fields(), max_size=2))]
    then = draw(st.lists(sample_fields(), max_size=5))
    if draw(st.booleans()):
        return b"".join(first + then)
    more = draw(st.lists(st.sampled_from(UNKNOWN), max_size=2))
    return b"".join(draw(st.permutations(first + then + more)))


def read_plainly(series: bytes) -> tuple[SeriesName, list[tuple[int, bytes]]] | None:
    """A series, read field by field."""
    fields = list(read_fields(series))
    pairs = [_read_label(field) for field in fields if field.number == 1]
    name = read_name(pairs)
    samples = [read_sample(bytes(field.content)) for field in fields if field.number == 2]
    return (name, samples) if isinstance(name, SeriesName) and samples else None


def _read_label(field: Field) -> tuple[str, str]:
    parts = {one.number: bytes(one.content) for one in read_fields(bytes(field.content))}
    return to_text(parts.get(1, b"")), to_text(parts.get(2, b""))


@example([labels("up") + one for one in LOOKALIKES])
@given(st.lists(all_series(), max_size=6))
def test_short_cuts_find_what_a_plain_reader_finds(series: list[bytes]) -> None:
    caching = CachingDecoder(decode)
    plainly = [one for one in map(read_plainly, series) if one]
    backwards = [one for one in map(read_plainly, series[::-1]) if one]

    unknown, known = caching.decode(write_request(*series)), caching.decode(write_request(*series))

    assert unknown.series == known.series == plainly
    assert unknown.wrong == known.wrong
    assert caching.decode(write_request(*series[::-1])).series == backwards


@given(st.lists(all_series(), min_size=1, max_size=3), st.data())
def test_a_broken_request_never_hurts_more_than_itself(
    series: list[bytes], data: st.DataObject
) -> None:
    caching = CachingDecoder(decode)
    body = bytearray(write_request(*series))
    caching.decode(bytes(body))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not body:
            break

    with suppress(InfraWatchError):
        caching.decode(bytes(body))


@given(st.binary(max_size=200))
@example(varint(2**70))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(MalformedBody):
        tell(body)
