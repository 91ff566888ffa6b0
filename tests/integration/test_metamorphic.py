"""The same samples, sent in any format, end as the same rows; the same flaws get one code."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pytest
from httpx import AsyncClient

from infrawatch.store.database import Database

from benchmarks.encodings import LineProtocol, NativeJson, RemoteWrite  # isort: skip

METRIC = "m_value"
COMMON = {"plugin": "p", "dsname": "value"}  # labels that every record of collectd has
NOW_MS = time.time_ns() // 1_000_000
DAY_MS = 86_400_000

Labels = Mapping[str, str]
Samples = Sequence[tuple[int, float]]
Told = Sequence[tuple[Labels, Samples]]

GOOD: Told = [
    ({"host": "a", **COMMON}, [(NOW_MS - 15_000, 1.5), (NOW_MS, -2.25)]),
    ({"host": 'ü b=,\\"c', **COMMON}, [(NOW_MS - 1, 1e300), (NOW_MS, 0.1)]),
    ({"host": "c", **COMMON}, [(NOW_MS, 9007199254740991.0)]),
]
FLAWED: Told = [
    ({"host": "old", **COMMON}, [(NOW_MS - 400 * DAY_MS, 1.0)]),
    ({"host": "new", **COMMON}, [(NOW_MS + 4 * DAY_MS, 1.0)]),
    ({"host": "x" * 5_000, **COMMON}, [(NOW_MS, 1.0)]),
]
CODES = {"too_old": 1.0, "too_far_in_future": 1.0, "too_long": 1.0}


class Sent(NamedTuple):
    """A request: where it goes, and what it carries."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def as_json(told: Told) -> Sent:
    encoding = NativeJson()
    parts = (_series(encoding, labels, samples) for labels, samples in told)
    return Sent("/v1/samples?partial=true", encoding.headers, encoding.body(parts))


def as_ndjson(told: Told) -> Sent:
    lines = [_series(NativeJson(), labels, samples) for labels, samples in told]
    headers = {"Content-Type": "application/x-ndjson"}
    return Sent("/v1/samples?partial=true", headers, b"\n".join(lines))


def as_remote_write(told: Told) -> Sent:
    encoding = RemoteWrite()
    parts = (_series(encoding, labels, samples) for labels, samples in told)
    return Sent("/api/v1/write", encoding.headers, encoding.body(parts))


def as_line_protocol(path: str) -> Callable[[Told], Sent]:
    def encode(told: Told) -> Sent:
        lines = "".join(
            f"m,{_tags(labels)} value={value!r} {time_ms}\n"
            for labels, samples in told
            for time_ms, value in samples
        )
        return Sent(path, LineProtocol.headers, lines.encode())

    return encode


def as_otlp(told: Told) -> Sent:
    points = [
        {
            "timeUnixNano": str(time_ms * 1_000_000),
            "asDouble": value,
            "attributes": [
                {"key": name, "value": {"stringValue": text}} for name, text in labels.items()
            ],
        }
        for labels, samples in told
        for time_ms, value in samples
    ]
    metrics = [{"name": METRIC, "gauge": {"dataPoints": points}}]
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    return Sent("/v1/metrics", {"Content-Type": "application/json"}, _dump(document))


def as_exposition(told: Told) -> Sent:
    lines = "".join(
        f"{METRIC}{{{_quoted(labels)}}} {value!r} {time_ms}\n"
        for labels, samples in told
        for time_ms, value in samples
    )
    return Sent("/v1/exposition", {"Content-Type": "text/plain; version=0.0.4"}, lines.encode())


def as_vm_import(told: Told) -> Sent:
    lines = (
        _dump(
            {
                "metric": dict(labels, __name__=METRIC),
                "values": [value for _, value in samples],
                "timestamps": [time_ms for time_ms, _ in samples],
            }
        )
        for labels, samples in told
    )
    return Sent("/api/v1/import", {"Content-Type": "application/json"}, b"\n".join(lines))


def as_collectd(told: Told) -> Sent:
    records = [
        {
            "values": [value],
            "dstypes": ["gauge"],
            "dsnames": ["value"],
            "time": time_ms / 1000,
            "interval": 10,
            "host": labels["host"],
            "plugin": labels["plugin"],
            "plugin_instance": "",
            "type": METRIC,
            "type_instance": "",
        }
        for labels, samples in told
        for time_ms, value in samples
    ]
    return Sent("/v1/collectd", {"Content-Type": "application/json"}, _dump(records))


WAYS: Mapping[str, Callable[[Told], Sent]] = {
    "JSON": as_json,
    "NDJSON": as_ndjson,
    "remote write": as_remote_write,
    "Influx 1": as_line_protocol("/write?precision=ms"),
    "Influx 2": as_line_protocol("/api/v2/write?precision=ms"),
    "Influx 3": as_line_protocol("/api/v3/write_lp?db=x&precision=millisecond"),
    "OTLP": as_otlp,
    "exposition": as_exposition,
    "VictoriaMetrics import": as_vm_import,
    "collectd": as_collectd,
}

Rows = set[tuple[str, str, int, float]]
EXPECTED: Rows = {
    (METRIC, json.dumps(dict(sorted(labels.items()))), time_ms, value)
    for labels, samples in GOOD
    for time_ms, value in samples
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_samples_end_as_the_same_rows(
    client: AsyncClient, database: Database, way: str
) -> None:
    for _ in range(2):  # sending again changes nothing
        answer = await _send(client, WAYS[way](GOOD))
        assert answer in (200, 204)

    assert await _rows(database) == EXPECTED


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_flaws_get_the_same_codes_and_cost_only_themselves(
    client: AsyncClient, database: Database, way: str
) -> None:
    await _send(client, WAYS[way]([*GOOD, *FLAWED]))

    assert await _rows(database) == EXPECTED
    metrics = (await client.get("/metrics")).text.splitlines()
    refused = [one for one in metrics if one.startswith("infrawatch_samples_rejected_total")]
    found = {one.split('code="')[1].split('"')[0]: float(one.split()[-1]) for one in refused}
    assert found == CODES


async def _send(client: AsyncClient, sent: Sent) -> int:
    return (await client.post(sent.path, headers=sent.headers, content=sent.body)).status_code


async def _rows(database: Database) -> Rows:
    async with database.reading() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT metric, labels, (extract(epoch FROM at) * 1000)::bigint AS at_ms, value"
            " FROM samples WHERE metric = 'm_value'"
        )
        return {
            (row.metric, json.dumps(dict(sorted(row.labels.items()))), row.at_ms, row.value)
            for row in rows
        }


def _series(encoding: NativeJson | RemoteWrite, labels: Labels, samples: Samples) -> bytes:
    times, values = [t for t, _ in samples], [v for _, v in samples]
    return encoding.series(encoding.head(METRIC, labels), times, values)


def _tags(labels: Labels) -> str:
    return ",".join(
        f"{name}={''.join(chr(92) + c if c in ', =' else c for c in value)}"
        for name, value in labels.items()
    )


def _quoted(labels: Labels) -> str:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"") for name, value in labels.items()
    }
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())


def _dump(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
