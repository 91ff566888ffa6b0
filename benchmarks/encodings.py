"""The same samples as native JSON, Prometheus remote write 1.0 and Influx line protocol."""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import cramjam

_VARINT_MORE = 0x80


class Encoding(Protocol):
    """How one format names a series, and puts samples and series together."""

    headers: Mapping[str, str]

    def head(self, metric: str, labels: Mapping[str, str]) -> bytes:
        """What names a series; made once."""

    def series(self, head: bytes, times: Sequence[int], values: Sequence[float]) -> bytes:
        """One series with some samples."""

    def body(self, parts: Iterable[bytes]) -> bytes:
        """A request of several series."""


class NativeJson:
    headers: Mapping[str, str] = {"Content-Type": "application/json"}

    def head(self, metric: str, labels: Mapping[str, str]) -> bytes:
        named = json.dumps({"metric": metric, "labels": labels}, separators=(",", ":"))
        return f'{named[:-1]},"samples":['.encode()

    def series(self, head: bytes, times: Sequence[int], values: Sequence[float]) -> bytes:
        samples = ",".join(f"[{t},{v!r}]" for t, v in zip(times, values, strict=True))
        return head + samples.encode() + b"]}"

    def body(self, parts: Iterable[bytes]) -> bytes:
        return b'{"series":[' + b",".join(parts) + b"]}"


class LineProtocol:
    headers: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8"}

    def head(self, metric: str, labels: Mapping[str, str]) -> bytes:
        pairs = (f"{name}={value}" for name, value in sorted(labels.items()))
        return f"{','.join((metric, *pairs))} value=".encode()

    def series(self, head: bytes, times: Sequence[int], values: Sequence[float]) -> bytes:
        rows = (f"{v!r} {t}\n".encode() for t, v in zip(times, values, strict=True))
        return b"".join(head + row for row in rows)

    def body(self, parts: Iterable[bytes]) -> bytes:
        return b"".join(parts)


class RemoteWrite:
    """Source: Prometheus remote write specification 1.0; fields 1 and 2 of each message."""

    headers: Mapping[str, str] = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }

    def head(self, metric: str, labels: Mapping[str, str]) -> bytes:
        pairs = sorted({"__name__": metric, **labels}.items())
        return b"".join(
            _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in pairs
        )

    def series(self, head: bytes, times: Sequence[int], values: Sequence[float]) -> bytes:
        samples = (
            _field(2, b"\x09" + struct.pack("<d", v) + b"\x10" + _varint(t))
            for t, v in zip(times, values, strict=True)
        )
        return _field(1, head + b"".join(samples))

    def body(self, parts: Iterable[bytes]) -> bytes:
        return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= _VARINT_MORE:
        encoded.append(number % _VARINT_MORE | _VARINT_MORE)
        number //= _VARINT_MORE
    encoded.append(number)
    return bytes(encoded)
