"""Remote write 2.0, read: vectors made by hand, and what holds for any request."""

import struct
from collections.abc import Sequence
from contextlib import suppress

import pytest
from caching_decoder import CachingDecoder
from decoding import Content, content_of, nothing_known
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from protobuf_wire import (
    Table,
    bits_field,
    bytes_field,
    double_field,
    number_field,
    packed_field,
    read_fields,
    read_sample,
    read_varints,
    sample,
)
from stored import named

from infrawatch.errors import BatchTooLarge, InfraWatchError, MalformedBody
from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.protocols.remote_write import version2
from infrawatch.ingest.protocols.remote_write.labels import read_name, to_text
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS
from infrawatch.store.metadata import Metadata

NOON = 1_790_000_000_000
ONE, TWO = struct.pack("<d", 1.0), struct.pack("<d", 2.0)


def decode(body: bytes, find: Find) -> Decoded:
    return version2.decode(body, find).decoded


def tell(body: bytes) -> Content:
    return content_of(decode(body, nothing_known))


def test_a_request_is_read_as_the_specification_has_it() -> None:
    body = bytes.fromhex(
        "22 00  22 08 5f5f6e616d655f5f  22 02 7570  22 01 61  22 01 62"  # symbols
        "22 05 4973206974  22 01 73"  # "Is it", "s"
        "2a 20"  # timeseries, 32 bytes
        "0a 04 01020304"  # labels_refs: __name__="up", a="b"
        "12 10 09 000000000000f03f 10 80d8c1a28c34"  # 1.0 at 1790000000000
        "2a 06 0802 1805 2006"  # metadata: gauge, help, unit
    )

    assert tell(body).series == [(named("up", a="b"), [(NOON, ONE)])]
    assert tell(body).metadata == {"up": Metadata("gauge", "s", "Is it")}


def test_start_times_are_accepted() -> None:
    table = Table()
    body = table.request(
        table.labels("a") + sample(1.0, NOON, NOON - 5_000) + table.metadata(1),
        table.labels("b") + sample(None, NOON, NOON - 5_000),
        table.labels("c") + sample(1.0, NOON, -1),
        table.labels("d") + sample(1.0, NOON) + number_field(6, NOON - 5_000),
    )

    assert tell(body).series == [
        (named("a"), [(NOON, ONE)]),
        (named("b"), [(NOON, bytes(8))]),
        (named("c"), [(NOON, ONE)]),
        (named("d"), [(NOON, ONE)]),
    ]


@pytest.mark.parametrize("times", [1, 2, 60])
def test_every_bit_of_a_value_is_kept(times: int) -> None:
    special = [STALE_NAN_BITS, 0x7FF8_0000_0000_0001, 0xFFF8_DEAD_BEEF_0001, 1 << 63, 1]
    table = Table()
    fields = [
        bytes_field(2, bits_field(1, bits) + number_field(2, NOON + bits % 7)) for bits in special
    ]
    body = table.request(
        *(table.labels("up", n=str(n)) + one * times for n, one in enumerate(fields))
    )

    kept = [value for _, samples in tell(body).series for _, value in samples]

    assert kept == [struct.pack("<Q", bits) for bits in special for _ in range(times)]


def test_a_table_may_be_long() -> None:
    """So that references take one to three bytes, and many of them have a two byte length."""
    table = Table()
    table.symbols += [b"%d" % number for number in range(20_000)]
    more = {f"l{number}": str(number * 300) for number in range(60)}
    body = table.request(
        table.labels("up", **more) + sample(1.0, NOON),
        table.labels("up", n="3") + sample(2.0, NOON),
    )

    assert tell(body).series == [
        (named("up", **more), [(NOON, ONE)]),
        (named("up", n="3"), [(NOON, TWO)]),
    ]


def test_the_same_series_is_known_again_with_another_table() -> None:
    caching, first, second = CachingDecoder(decode), Table(), Table()
    second.symbols += [b"z", b"job", b"up"]
    bodies = [
        table.request(table.labels("up", job="x") + sample(1.0, NOON)) for table in (first, second)
    ]
    keys = [decode(body, caching.find).keys for body in bodies]

    assert keys[0] == keys[1]
    assert [caching.decode(body).series for body in bodies] == [
        [(named("up", job="x"), [(NOON, ONE)])]
    ] * 2


def test_texts_are_not_mixed_up_at_their_edges() -> None:
    table = Table()
    body = table.request(
        table.labels("up", a="bc") + sample(1.0, NOON),
        table.labels("up", ab="c") + sample(2.0, NOON),
    )
    keys = decode(body, nothing_known).keys

    assert keys[0] != keys[1]


def test_exemplars_are_counted() -> None:
    table = Table()
    exemplar = bytes_field(4, double_field(2, 1.0))
    body = table.request(table.labels("up") + sample(1.0, NOON) + exemplar * 2)

    assert decode(body, nothing_known).exemplars == 2
    assert tell(body).series == [(named("up"), [(NOON, ONE)])]


def test_fields_may_come_in_any_order_and_references_one_by_one() -> None:
    table = Table()
    texts = map(table.reference, (b"__name__", b"up"))
    references = b"".join(number_field(1, reference) for reference in texts)
    body = table.request(
        sample(1.0, NOON) + table.metadata(1, "Is it?") + references,
        table.metadata(2) + table.labels("down") + sample(2.0, NOON) + number_field(9, 1),
    )

    assert tell(body).series == [(named("up"), [(NOON, ONE)]), (named("down"), [(NOON, TWO)])]
    assert tell(body).metadata == {
        "up": Metadata("counter", "", "Is it?"),
        "down": Metadata("gauge"),
    }


def test_metadata_are_read_with_every_request() -> None:
    """Because a key says nothing of them, and they change when an exporter does."""
    caching, table = CachingDecoder(decode), Table()
    bodies = [
        table.request(table.labels("up") + sample(1.0, NOON) + table.metadata(2, text))
        for text in ("before", "after")
    ]

    assert [caching.decode(body).metadata["up"].help for body in bodies] == ["before", "after"]


def test_metadata_that_cannot_be_read_cost_no_sample() -> None:
    table = Table()
    up = table.labels("up") + sample(1.0, NOON)
    body = table.request(
        up + bytes_field(5, number_field(3, 99)),
        table.labels("down") + sample(1.0, NOON) + bytes_field(5, b"\x0a"),
        table.labels("a\n") + sample(1.0, NOON) + table.metadata(1),
    )
    told_of = tell(body)

    assert [name for name, _ in told_of.series] == [named("up"), named("down")]
    assert told_of.metadata == {}
    assert [(index, code) for index, _, code in told_of.wrong] == [
        (0, "malformed_metadata"),
        (1, "malformed_metadata"),
        (2, "invalid_metric"),
    ]
    assert told_of.rejected_samples == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (b"", "invalid_metric"),
        (packed_field(1, [3, 4]), "invalid_metric"),
        (bytes_field(8, b"\x01\x02"), "invalid_metric"),
        (packed_field(1, [1, 0]), "invalid_metric"),
        (packed_field(1, [1, 5]), "invalid_metric"),
        (packed_field(1, [1, 2, 3]), "invalid_reference"),
        (packed_field(1, [1, 7]), "invalid_reference"),
        (packed_field(1, [1, 300]), "invalid_reference"),
        (packed_field(1, [1, 2**32 - 1]), "invalid_reference"),
        (packed_field(1, [1, 2, 3, 4, 3, 2]), "duplicate_label"),
        (packed_field(1, [1, 2, 1, 2]), "duplicate_label"),
        (packed_field(1, [1, 2, 5, 4]), "invalid_label_name"),
        (packed_field(1, [1, 2, 3, 5]), "invalid_label_value"),
        (packed_field(1, [1, 2, 3, 6]), "too_long"),
        (bytes_field(1, b"\x01\x82"), "malformed_series"),
        (packed_field(1, [1, 2]) + b"\x07", "malformed_series"),
    ],
)
@pytest.mark.parametrize("bad_text", [b"\x00", b"\xff"])
def test_a_bad_series_is_named_and_the_good_ones_are_read(
    fields: bytes, code: str, bad_text: bytes
) -> None:
    table = Table()
    table.symbols += [b"__name__", b"good", b"a", b"b", bad_text, b"x" * 4_097]
    good = table.labels("good") + sample(1.0, NOON)
    told_of = tell(table.request(good, fields + sample(1.0, NOON), good))

    assert told_of.series == [(named("good"), [(NOON, ONE)])] * 2
    assert [(index, code) for index, _, code in told_of.wrong] == [(1, code)]
    assert told_of.rejected_samples == 1


@pytest.mark.parametrize("body", [b"\x0a", b"\xff", b"{}", bytes_field(1, b"\x0a\x00")])
def test_a_malformed_request_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode(body, nothing_known)


def test_common_requests_are_never_read_field_by_field() -> None:
    table = Table()
    usual = [
        sample(1.0, NOON),
        sample(None, NOON) + table.metadata(1, "help", "unit"),
        sample(1.0, NOON) * 60 + table.metadata(1),
        sample(1.0, NOON, NOON),
        sample(None, NOON, NOON) + table.metadata(2, "help"),
    ]
    body = table.request(*(table.labels("up", n=str(n)) + one for n, one in enumerate(usual)))

    assert version2.decode(body, nothing_known).parsed == {}


def test_an_empty_request_is_one() -> None:
    assert tell(b"").series == []
    assert tell(Table().request()).series == []


def test_a_request_with_absurdly_many_series_is_refused_before_they_are_read() -> None:
    with pytest.raises(BatchTooLarge):
        decode(bytes_field(5, b"") * 50_001, nothing_known)


@pytest.mark.parametrize("more", [b"", number_field(9, 1)])
def test_references_cannot_make_a_request_much_larger_than_it_is(more: bytes) -> None:
    table = Table()
    table.symbols += [b"__name__", b"up", b"x" * 600_000]
    series = packed_field(1, [1, 2, *[3] * 128]) + sample(1.0, NOON) + more

    with pytest.raises(BatchTooLarge):
        decode(table.request(series), nothing_known)


def test_a_series_of_absurdly_many_references_is_refused() -> None:
    table = Table()
    body = table.request(table.labels("up") + packed_field(1, [1] * 130) + sample(1.0, NOON))

    assert [code for _, _, code in tell(body).wrong] == ["too_many_labels"]


SYMBOLS = [b"", b"__name__", b"up", b"down", b"a", b"b", b"\x12\x10\x09", "ü".encode(), b"b"]
TIMES = [NOON, NOON + 15_000, 0, -1, 2**35 - 1, 2**42, 2**63 - 1]
UNKNOWN = [number_field(9, 1), bytes_field(8, b"\x01\x02"), bytes_field(4, b""), number_field(6, 5)]


LOOKALIKES = [
    bytes_field(2, number_field(2, NOON) + double_field(1, 1.0)),
    bytes_field(2, double_field(1, 1.0) + number_field(2, NOON) + number_field(2, NOON + 1)),
    bytes_field(2, number_field(2, NOON) + number_field(2, NOON + 1)),
    bytes_field(2, number_field(3, NOON) + number_field(2, NOON)),
]
"""As long as usual samples, and something else."""


@st.composite
def sample_fields(draw: DrawFn) -> bytes:
    if draw(st.booleans()):
        start = draw(st.sampled_from((None, NOON - 5_000)))
        return sample(
            draw(st.sampled_from((None, 1.0, 2.5))), NOON + draw(st.integers(0, 9)), start
        )
    if draw(st.booleans()):
        return draw(st.sampled_from(LOOKALIKES))
    bits = st.integers(0, 2**64 - 1).map(lambda number: bits_field(1, number))
    times = st.sampled_from(TIMES).map(lambda number: number_field(2, number))
    starts = st.sampled_from(TIMES).map(lambda number: number_field(3, number))
    parts = draw(st.lists(bits | times | starts | st.sampled_from(UNKNOWN), max_size=4))
    return bytes_field(2, b"".join(parts))


@st.composite
def all_series(draw: DrawFn) -> bytes:
    place = st.integers(0, len(SYMBOLS) - 1)
    if draw(st.integers(0, 9)) == 0:
        place = st.just(99)
    pairs = draw(st.lists(st.tuples(place, place), max_size=2))
    references = [1, draw(st.sampled_from((2, 3))), *(one for pair in pairs for one in pair)]
    if draw(st.integers(0, 9)) == 0:
        references.pop()
    first = packed_field(1, references)
    then = draw(st.lists(sample_fields(), max_size=4))
    metadata = bytes_field(5, number_field(1, 2) + number_field(3, 4))
    last = draw(st.sampled_from((b"", metadata)))
    if draw(st.booleans()):
        return b"".join([first, *then, last])
    more = draw(st.lists(st.sampled_from(UNKNOWN), max_size=2))
    return b"".join(draw(st.permutations([first, *then, last, *more])))


def request(series: Sequence[bytes], symbols: Sequence[bytes] = SYMBOLS) -> bytes:
    table = Table()
    table.symbols = [*symbols]
    return table.request(*series)


def read_plainly(series: bytes) -> tuple[SeriesName, list[tuple[int, bytes]]] | None:
    """A series, read field by field."""
    fields = list(read_fields(series))
    references = [
        reference
        for field in fields
        if field.number == 1
        for reference in read_varints(bytes(field.content))
    ]
    samples = [read_sample(bytes(field.content)) for field in fields if field.number == 2]
    if len(references) % 2 or max(references) >= len(SYMBOLS) or not samples:
        return None
    texts = [to_text(SYMBOLS[reference]) for reference in references]
    name = read_name(list(zip(texts[::2], texts[1::2], strict=True)))
    return (name, samples) if isinstance(name, SeriesName) else None


@example([packed_field(1, [1, 2]) + one for one in LOOKALIKES])
@given(st.lists(all_series(), max_size=6))
def test_short_cuts_find_what_a_plain_reader_finds(series: list[bytes]) -> None:
    caching = CachingDecoder(decode)
    plainly = [one for one in map(read_plainly, series) if one]

    unknown, known = caching.decode(request(series)), caching.decode(request(series))
    carefully = tell(request(series, [*SYMBOLS, b"\xff"]))  # which keeps it off all short cuts

    assert unknown.series == known.series == plainly
    assert unknown == known
    assert carefully.series == plainly
    assert carefully.wrong == unknown.wrong
    if not unknown.wrong:  # of a series that is refused it does not matter what else it says
        assert carefully.metadata.keys() == unknown.metadata.keys()


@given(st.lists(all_series(), min_size=1, max_size=3), st.data())
def test_a_broken_request_never_hurts_more_than_itself(
    series: list[bytes], data: st.DataObject
) -> None:
    body = bytearray(request(series))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    with suppress(InfraWatchError):
        tell(bytes(body))
