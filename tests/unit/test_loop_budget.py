"""What takes long to read is not read on the event loop, whatever its size; what is usual, is."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from decoding import content_of, nothing_known
from otlp_requests import gauge, number, request
from protobuf_wire import Table, bytes_field, labels, sample, write_request

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.native import decode as native
from infrawatch.ingest.protocols import collectd, vm_import
from infrawatch.ingest.protocols.exposition import decode as exposition
from infrawatch.ingest.protocols.influx import decode as influx
from infrawatch.ingest.protocols.otlp import router as otlp
from infrawatch.ingest.protocols.remote_write import version1, version2
from infrawatch.ingest.scheduling.loop_budget import MAX_NEW, BlocksLoop, find_known

Read = Callable[..., Any]

NOW_MS = 1_790_000_000_000

native_json: Read = partial(native.decode_json, precision="ms", find=nothing_known)
ndjson: Read = partial(native.decode_ndjson, precision="ms")
protobuf: Read = partial(otlp._read, encoding="application/x-protobuf", find=nothing_known)
otlp_json: Read = partial(otlp._read, encoding="application/json", find=nothing_known)
first: Read = partial(version1.decode, find=nothing_known)
second: Read = partial(version2.decode, find=nothing_known)
lines: Read = partial(influx.decode, unit_ns=1, now_ns=NOW_MS * 10**6, find=nothing_known)
page: Read = partial(exposition.decode, now_ms=NOW_MS, extra_labels={})
imported: Read = partial(vm_import.decode, extra_labels={})


def one(n: int, **more: object) -> dict[str, object]:
    return {"metric": "up", "labels": {"n": str(n)}, "samples": [[NOW_MS, 1.5]], **more}


def batch(*series: object) -> bytes:
    return json.dumps({"series": series}, separators=(",", ":")).encode()


def nested(*fields: int, inside: bytes) -> bytes:
    for field in reversed(fields):
        inside = bytes_field(field, inside)
    return inside


def points(count: int) -> bytes:
    numbers = (number(1.5, NOW_MS * 10**6, {"n": str(n)}) for n in range(count))
    return request(gauge("up", *numbers)).SerializeToString()


def of_second_version(series: int, after: bytes = b"") -> bytes:
    table = Table()
    return table.request(
        *[table.labels("up", n=str(n)) + sample(1.5, NOW_MS) + after for n in range(series)]
    )


def of_first_version(series: int, after: bytes = b"") -> bytes:
    return write_request(
        *[labels("up", n=str(n)) + sample(1.5, NOW_MS) + after for n in range(series)]
    )


def influx_lines(count: int, end: bytes = b" 1790000000000000000") -> bytes:
    return b"".join(b"up,n=%d value=1.5%b\n" % (n, end) for n in range(count))


USUAL: dict[str, tuple[Read, bytes]] = {
    "native": (native_json, batch(*map(one, range(1_000)))),
    "native, written otherwise": (
        native_json,
        json.dumps({"series": [one(n, type="gauge") for n in range(1_000)]}, indent=0).encode(),
    ),
    "NDJSON": (ndjson, b"\n".join(json.dumps(one(n)).encode() for n in range(1_000))),
    "OTLP": (protobuf, points(1_000)),
    "OTLP in JSON": (otlp_json, b'{"resourceMetrics":[]}'),
    "remote write 1": (first, of_first_version(1_000)),
    "remote write 1, new series": (first, of_first_version(5_000)),
    "remote write 2": (second, of_second_version(1_000)),
    "lines": (lines, influx_lines(1_000)),
    "lines without a time": (lines, influx_lines(1_000, b"")),
    "a page": (page, b"".join(b'up{n="%d"} 1.5\n' % n for n in range(1_000))),
    "collectd": (collectd.decode, b"[]"),
    "VictoriaMetrics": (imported, b"\n"),
}

MANY = 5_000
COSTLY: dict[str, tuple[Read, bytes]] = {
    "native, wrong samples": (native_json, batch(one(0, samples=[0] * MANY))),
    "native, empty objects": (native_json, batch(*[{}] * MANY)),
    "native, new series": (native_json, batch(*map(one, range(MANY)))),
    "native, one wrong": (native_json, batch(*map(one, range(500)), one(0, samples=[["x", 1]]))),
    "native, large": (native_json, batch(one(0, help="x" * 2**20))),
    "NDJSON, empty objects": (ndjson, b"{}\n" * MANY),
    "NDJSON, empty lines": (ndjson, b"\n" * 500_000 + b"{}"),
    "OTLP, resources": (protobuf, b"\x0a\0" * MANY),
    "OTLP, scopes": (protobuf, nested(1, inside=b"\x12\0" * MANY)),
    "OTLP, metrics": (protobuf, nested(1, 2, inside=b"\x12\0" * MANY)),
    "OTLP, points": (protobuf, nested(1, 2, 2, 5, inside=b"\x0a\0" * MANY)),
    "OTLP, summaries": (protobuf, nested(1, 2, 2, 11, inside=b"\x0a\0" * MANY)),
    "OTLP, large": (protobuf, points(3_000)),
    "OTLP in JSON": (otlp_json, json.dumps({"resourceMetrics": [{}] * MANY}).encode()),
    "remote write 1, unusual": (first, of_first_version(600, bytes_field(9, b""))),
    "remote write 1, series": (first, bytes_field(1, b"") * 10_001),
    "remote write 1, metadata": (first, write_request(metadata=[b""] * MANY)),
    "remote write 2, unusual": (second, of_second_version(600, bytes_field(9, b""))),
    "remote write 2, texts": (second, bytes_field(4, b"") * 60_000 + bytes_field(5, b"")),
    "lines, broken": (lines, b"broken\n" * MANY),
    "lines without a time": (lines, influx_lines(MANY, b"")),
    "lines, new series": (lines, influx_lines(MANY)),
    "lines, a long name": (lines, b"up," + b",".join([b"a=b"] * 50_000) + b" value=1 1\n"),
    "lines, texts": (lines, b"up " + b",".join([b'f="x"'] * MANY) + b" 1\n"),
    "lines, fields": (lines, b"up " + b",".join([b"f=t"] * 30_000) + b" 1\n"),
    "a page, broken": (page, b"-\n" * 10_000),
    "collectd, empty objects": (collectd.decode, json.dumps([{}] * MANY).encode()),
    "VictoriaMetrics, empty objects": (imported, b"{}\n" * MANY),
}


def read_told(read: Read, body: bytes, *, on_loop: bool) -> object:
    found = read(body, on_loop=on_loop)
    return content_of(found if isinstance(found, Decoded) else found.decoded)


@pytest.mark.parametrize(("read", "body"), USUAL.values(), ids=USUAL.keys())
def test_bodies_of_agents_decode_the_same_on_and_off_the_event_loop(
    read: Read, body: bytes
) -> None:
    assert read_told(read, body, on_loop=True) == read_told(read, body, on_loop=False)


@pytest.mark.parametrize(("read", "body"), COSTLY.values(), ids=COSTLY.keys())
def test_expensive_bodies_are_not_read_on_the_event_loop(read: Read, body: bytes) -> None:
    with pytest.raises(BlocksLoop):
        read(body, on_loop=True)

    read(body)


def test_few_new_series_are_found_on_the_event_loop_and_any_number_of_known_ones() -> None:
    keys = [b"%d" % n for n in range(10 * MAX_NEW)]

    assert find_known(lambda keys: [7] * len(keys), keys, on_loop=True) == [7] * len(keys)
    assert find_known(nothing_known, keys, on_loop=False) == [None] * len(keys)
    assert find_known(nothing_known, keys[:MAX_NEW], on_loop=True) == [None] * MAX_NEW
    with pytest.raises(BlocksLoop):
        find_known(nothing_known, keys[: MAX_NEW + 1], on_loop=True)
    with pytest.raises(BlocksLoop):
        find_known(nothing_known, [bytes(2**20)], on_loop=True)
