"""Every format that is taken: where it is sent, a good body of it, and what reads it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cramjam
import numpy as np
from decoding import nothing_known
from google.protobuf.json_format import MessageToJson
from otlp_requests import buckets as otlp_buckets
from otlp_requests import counter, gauge, histogram, number, request
from protobuf_wire import Table, labels, sample, write_request
from pushing import now_ms

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.native import decode as native
from infrawatch.ingest.protocols import collectd, vm_import
from infrawatch.ingest.protocols.exposition import decode as exposition
from infrawatch.ingest.protocols.influx import decode as influx
from infrawatch.ingest.protocols.otlp.decode import decode as decode_otlp
from infrawatch.ingest.protocols.otlp.json_form import to_protobuf
from infrawatch.ingest.protocols.remote_write import version1, version2
from infrawatch.ingest.protocols.remote_write.classic import to_classics
from infrawatch.ingest.series.naming import Names, read_names

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
COMMON = ("identity", "gzip", "zstd", "deflate", "br")

ENCODE: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": lambda body: bytes(cramjam.gzip.compress(body)),
    "zstd": lambda body: bytes(cramjam.zstd.compress(body)),
    "deflate": lambda body: bytes(cramjam.zlib.compress(body)),
    "br": lambda body: bytes(cramjam.brotli.compress(body)),
    "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
}


class Format(NamedTuple):
    """`make` returns a body with a host of this name; `read` returns all samples of a body."""

    name: str
    path: str
    content_type: str
    make: Callable[[str], bytes]
    read: Callable[[bytes], None]
    encodings: tuple[str, ...] = COMMON


def _native(host: str) -> bytes:
    one = {"metric": "up", "labels": {"host": host}, "type": "gauge", "unit": "1", "help": "Is it?"}
    return json.dumps({"series": [{**one, "samples": [[now_ms(), 1.5]]}]}).encode()


def _lines(host: str) -> bytes:
    one = {"metric": "up", "labels": {"host": host}, "samples": [[now_ms(), 1.5], [now_ms(), 2]]}
    return (json.dumps(one) + "\n").encode() * 2


def _otlp(host: str) -> bytes:
    now, of = now_ms() * 10**6, {"host": host}
    return request(
        gauge("up", number(1.5, now, of), unit="1"),
        counter("requests", number(7, now, of)),
        histogram("lag", otlp_buckets([1, 2], [0.5], of, time_unix_nano=now), unit="s"),
        resource={"service.name": "api", "host.name": host},
    ).SerializeToString()


def _otlp_json(host: str) -> bytes:
    sent = request(gauge("up", number(1.5, now_ms() * 10**6, {"host": host})))
    return MessageToJson(sent, use_integers_for_enums=True).encode()


def _first(host: str) -> bytes:
    return write_request(labels("up", host=host) + sample(1.5, now_ms()))


def _second(host: str) -> bytes:
    table = Table()
    return table.request(
        table.labels("up", host=host) + sample(1.5, now_ms()) + table.metadata(2, "Is it?")
    )


def _influx(host: str) -> bytes:
    escaped = host.replace(" ", "\\ ").replace(",", "\\,").replace("=", "\\=")
    return f'up,host={escaped} value=1.5,n=3i,text="x" {now_ms()}000000\n'.encode()


def _collectd(host: str) -> bytes:
    one = {"values": [1.5], "dstypes": ["gauge"], "dsnames": ["value"], "interval": 10.0}
    place = {"host": host, "plugin": "cpu", "plugin_instance": "0"}
    kind = {"type": "up", "type_instance": "", "time": now_ms() / 1000}
    return json.dumps([{**one, **place, **kind}]).encode()


def _exposition(host: str) -> bytes:
    escaped = host.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'# TYPE up gauge\n# HELP up Is it?\nup{{host="{escaped}"}} 1.5\n'.encode()


def _import(host: str) -> bytes:
    one = {"metric": {"__name__": "up", "host": host}, "values": [1.5], "timestamps": [now_ms()]}
    return (json.dumps(one) + "\n").encode()


def read_all_names(decoded: Decoded, ids: Sequence[int | None]) -> Names:
    """The names of all series without an id, at once."""
    return {place: name for part in read_names(decoded, ids) for place, name in part.items()}


def read_whole(decoded: Decoded) -> None:
    """Call every method of a batch."""
    assert len(decoded.keys) == len(decoded.counts)
    assert len(decoded.times) == len(decoded.values) == int(decoded.counts.sum())
    assert decoded.times.dtype == np.int64
    names = read_all_names(decoded, nothing_known(decoded.keys))
    for name in names.values():
        name.fingerprint()
        name.shard()
        for text in (name.metric, *(part for pair in name.labels for part in pair)):
            assert "\0" not in text
            text.encode()
    for series, count in enumerate(decoded.counts.tolist()[:50]):
        for place in range(min(count, 3)):
            decoded.locate(series, place)


def _read_first(body: bytes) -> None:
    batch = version1.decode(body, nothing_known)
    read_whole(batch.decoded)
    if batch.has_histograms:
        read_whole(to_classics(batch)[0])


def _read_second(body: bytes) -> None:
    batch = version2.decode(body, nothing_known)
    read_whole(batch.decoded)
    if batch.has_histograms:
        read_whole(to_classics(batch)[0])


def _read_influx(body: bytes) -> None:
    read_whole(influx.decode(body, 1, now_ms() * 10**6, nothing_known))


_WRITE = ("/api/v1/write", f"{PROTOBUF};proto=prometheus.WriteRequest")
_WRITE_2 = ("/api/v1/write", f"{PROTOBUF};proto=io.prometheus.write.v2.Request")
_SNAPPY = ("snappy", "zstd")

FORMATS = [
    Format(
        *("native", "/v1/samples", JSON, _native),
        lambda body: read_whole(native.decode_json(body, "ms", nothing_known)),
    ),
    Format(
        *("NDJSON", "/v1/samples", "application/x-ndjson", _lines),
        lambda body: read_whole(native.decode_ndjson(body, "ms")),
    ),
    Format(
        *("OTLP", "/v1/metrics", PROTOBUF, _otlp),
        lambda body: read_whole(decode_otlp(body, nothing_known)),
    ),
    Format(
        *("OTLP JSON", "/v1/metrics", JSON, _otlp_json),
        lambda body: read_whole(decode_otlp(to_protobuf(body), nothing_known)),
    ),
    Format("remote write 1", *_WRITE, _first, _read_first, _SNAPPY),
    Format("remote write 2", *_WRITE_2, _second, _read_second, _SNAPPY),
    Format("Influx 1", "/write", "text/plain", _influx, _read_influx),
    Format("Influx 2", "/api/v2/write", "text/plain", _influx, _read_influx),
    Format("Influx 3", "/api/v3/write_lp", "text/plain", _influx, _read_influx),
    Format(
        *("collectd", "/v1/collectd", JSON, _collectd),
        lambda body: read_whole(collectd.decode(body)),
    ),
    Format(
        *("exposition", "/v1/exposition", "text/plain", _exposition),
        lambda body: read_whole(exposition.decode(body, now_ms(), {})),
    ),
    Format(
        *("JSON lines", "/api/v1/import", JSON, _import),
        lambda body: read_whole(vm_import.decode(body, {})),
    ),
]
