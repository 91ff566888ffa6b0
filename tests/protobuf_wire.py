"""Protocol Buffers by hand, as "Encoding" in their documentation has it, and remote write in them.

Written without the library, so that what the library is told about messages is tested too.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cramjam

Labels = Sequence[tuple[bytes, bytes]]


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits in two's complement."""
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def zigzag(number: int) -> int:
    """How `sint32` and `sint64` are numbered: 0, -1, 1, -2, 2, …"""
    return number << 1 ^ number >> 63


def number_field(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def double_field(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def bits_field(field: int, bits: int) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<Q", bits)


def bytes_field(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def packed_field(field: int, numbers: Iterable[int]) -> bytes:
    return bytes_field(field, b"".join(map(varint, numbers)))


def doubles_field(field: int, values: Iterable[float]) -> bytes:
    return bytes_field(field, b"".join(struct.pack("<d", value) for value in values))


def sample(
    value: float | None = None, time_ms: int | None = None, start_ms: int | None = None
) -> bytes:
    """A sample field, number 2 of a series in both versions; what is None is left out."""
    parts = [
        b"" if value is None else double_field(1, value),
        b"" if time_ms is None else number_field(2, time_ms),
        b"" if start_ms is None else number_field(3, start_ms),
    ]
    return bytes_field(2, b"".join(parts))


def label(name: bytes, value: bytes) -> bytes:
    return bytes_field(1, bytes_field(1, name) + bytes_field(2, value))


def labels(metric: str, /, **more: str) -> bytes:
    """The label fields of a 1.0 series, sorted as senders have to."""
    pairs = {"__name__": metric, **more}
    return b"".join(label(name.encode(), pairs[name].encode()) for name in sorted(pairs))


def write_request(*series: bytes, metadata: Iterable[bytes] = ()) -> bytes:
    """1.0: `prometheus.WriteRequest`."""
    return b"".join(
        [*(bytes_field(1, one) for one in series), *(bytes_field(3, one) for one in metadata)]
    )


class Table:
    """2.0: texts, and references to them."""

    def __init__(self) -> None:
        self.symbols = [b""]

    def reference(self, text: bytes) -> int:
        if text not in self.symbols:
            self.symbols.append(text)
        return self.symbols.index(text)

    def labels(self, metric: str, /, **more: str) -> bytes:
        pairs = {"__name__": metric, **more}
        texts = [text.encode() for name in sorted(pairs) for text in (name, pairs[name])]
        return packed_field(1, map(self.reference, texts))

    def metadata(self, kind: int, text: str = "", unit: str = "") -> bytes:
        parts = [
            number_field(1, kind),
            number_field(3, self.reference(text.encode())),
            number_field(4, self.reference(unit.encode())),
        ]
        return bytes_field(5, b"".join(parts))

    def request(self, *series: bytes) -> bytes:
        """`io.prometheus.write.v2.Request`."""
        symbols = [bytes_field(4, symbol) for symbol in self.symbols]
        return b"".join([*symbols, *(bytes_field(5, one) for one in series)])


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


class Field(NamedTuple):
    number: int
    content: int | bytes


def read_fields(encoded: bytes) -> Iterator[Field]:
    """Numbers as unsigned, eight bytes and lengths as bytes."""
    at = 0
    while at < len(encoded):
        tag, at = _read_varint(encoded, at)
        kind = tag & 7
        if kind == 0:
            number, at = _read_varint(encoded, at)
            yield Field(tag >> 3, number)
            continue
        size = 8
        if kind == 2:
            size, at = _read_varint(encoded, at)
        assert kind in (1, 2), kind
        yield Field(tag >> 3, encoded[at : at + size])
        at += size


def read_sample(encoded: bytes) -> tuple[int, bytes]:
    """Time and bits of the value."""
    time_ms, bits = 0, bytes(8)
    for field in read_fields(encoded):
        if field.number == 1 and isinstance(field.content, bytes):
            bits = field.content
        if field.number == 2 and isinstance(field.content, int):
            time_ms = field.content - (field.content >> 63 << 64)
    return time_ms, bits


def _read_varint(encoded: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (encoded[at] & 0x7F) << shift
        if encoded[at] < 0x80:
            return number & 2**64 - 1, at + 1
        at, shift = at + 1, shift + 7


def read_varints(encoded: bytes) -> Iterator[int]:
    at = 0
    while at < len(encoded):
        number, at = _read_varint(encoded, at)
        yield number
