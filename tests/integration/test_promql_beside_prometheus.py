"""Prometheus and we, with the same samples, answer the same queries with the same numbers.

`make peers` installs Debian's.
"""

import asyncio
import json
import math
import shutil
import socket
import struct
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cramjam
import pytest
import pytest_asyncio
from httpx import AsyncClient, TransportError
from promql_queries import QUERIES, REFUSED, a_query
from protobuf_wire import bits_field, bytes_field, labels, number_field, write_request
from thorough import IS_THOROUGH

from infrawatch.model.timerange import now_us

PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(PROMETHEUS is None, reason="no `prometheus` here: `make peers` installs it"),
]

EVERY_S = 10
SAMPLES = 180
START_S = now_us() // 60_000_000 * 60 - 3_000
END_S = START_S + SAMPLES * EVERY_S
SHIFT_MS = 3_700
"""No sample falls on the edge of a window, which belonged to it before Prometheus 3."""

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
READY_S = 60

Told = dict[str, list[float | None]]
Answer = tuple[str, object]


def told() -> Iterator[tuple[str, dict[str, str], list[float | None]]]:
    """Series by name and labels, each with a value, or none, every `EVERY_S`."""
    chance = Random(5)
    for instance in ("a", "b", "c"):
        for code in ("200", "404", "500"):
            yield "requests_total", {"instance": instance, "code": code}, a_counter(chance)
        for le in ("0.1", "0.5", "1", "+Inf"):
            rises = [
                float(n * (1 + float(le))) if le != "+Inf" else n * 3.0 for n in range(SAMPLES)
            ]
            yield "latency_bucket", {"instance": instance, "le": le}, [1_000 + one for one in rises]
        half = SAMPLES // 2
        version = {"instance": instance, "version": "1"}
        yield "build_info", version, [1.0] * half + [STALE] + [None] * (half - 1)
        yield "build_info", version | {"version": "2"}, [None] * half + [1.0] * half
    for room, floor in (("hall", "0"), ("lab", "1"), ("attic", "2")):
        values = [round(20 + chance.gauss(0, 5), 2) for _ in range(SAMPLES)]
        yield "temperature", {"room": room, "floor": floor}, [*values]
    gap: list[float | None] = [5.0] * 40 + [None] * 60 + [7.0] * (SAMPLES - 100)
    yield "temperature", {"room": "gap"}, gap
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, 1.0]
    yield "odd", {"kind": "mixed"}, [odd[n % len(odd)] for n in range(SAMPLES)]
    yield "odd", {"kind": "quiet"}, [2.0] * SAMPLES


def a_counter(chance: Random) -> list[float | None]:
    """Begins high, so that extrapolating it to zero makes no difference; starts again once."""
    value, values = 1e6, []
    for number in range(SAMPLES):
        value = 3e5 + chance.random() if number == 100 else value + chance.randrange(50)
        values.append(value)
    return [None if chance.random() < 0.05 else one for one in values]


def a_body() -> bytes:
    series = []
    for metric, more, values in told():
        fields = [labels(metric, **more)]
        for number, value in enumerate(values):
            if value is not None:
                time_ms = (START_S + number * EVERY_S) * 1000 + SHIFT_MS
                bits = struct.unpack("<Q", struct.pack("<d", value))[0]
                fields.append(bytes_field(2, bits_field(1, bits) + number_field(2, time_ms)))
        series.append(b"".join(fields))
    return bytes(cramjam.snappy.compress_raw(write_request(*series)))


@asynccontextmanager
async def prometheus(directory: Path) -> AsyncGenerator[AsyncClient, None]:
    """A Prometheus that takes remote write."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    configuration = directory / "prometheus.yml"
    configuration.write_text("global: {}\n")
    assert PROMETHEUS is not None
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--web.enable-remote-write-receiver",
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        async with AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            await until_ready(client)
            yield client
    finally:
        process.terminate()
        await process.wait()


async def until_ready(client: AsyncClient) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            with suppress(TransportError):
                if (await client.get("/-/ready")).is_success:
                    return
            await asyncio.sleep(0.1)


class Both(NamedTuple):
    """Two servers with the same samples."""

    ours: AsyncClient
    theirs: AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(
    shared_client: AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Both]:
    async with prometheus(tmp_path_factory.mktemp("prometheus")) as theirs:
        for client in (shared_client, theirs):
            headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
            answer = await client.post("/api/v1/write", content=a_body(), headers=headers)
            assert answer.status_code == 204, answer.text
        yield Both(shared_client, theirs)


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_has_the_same_answer(both: Both, query: str) -> None:
    for path, asked in (
        ("/api/v1/query_range", {"start": START_S + 300.5, "end": END_S + 400, "step": "37"}),
        ("/api/v1/query", {"time": START_S + 900.5}),
    ):
        ours, theirs = [await asked_of(client, path, asked, query) for client in both]
        assert ours[0] == "success"
        assert_same(ours, theirs, query)


@pytest.mark.parametrize("query", REFUSED)
async def test_a_query_is_refused_with_the_same_status(both: Both, query: str) -> None:
    asked = {"start": START_S + 300.5, "end": END_S, "step": "60", "query": query}
    ours, theirs = [await client.post("/api/v1/query_range", data=asked) for client in both]

    assert ours.status_code == theirs.status_code, ours.text
    assert ours.json()["status"] == "error"
    assert ours.json()["errorType"] == theirs.json()["errorType"]
    assert ours.json()["error"]


@pytest.mark.parametrize(
    "query",
    [
        "topk(3, temperature)",
        "bottomk(2, temperature)",
        "sort(temperature)",
        "sort_desc(temperature)",
        'topk by (code) (3, requests_total{code="404"})',
    ],
)
async def test_series_come_in_the_same_order(both: Both, query: str) -> None:
    asked = {"time": START_S + 900.5}
    ours, theirs = [await asked_of(one, "/api/v1/query", asked, query) for one in both]
    assert_same(ours, theirs, query)
    assert [*normal(ours[1])] == [*normal(theirs[1])]


async def test_the_most_steps_are_the_same(both: Both) -> None:
    for seconds, status in ((11_000, 200), (11_001, 400)):
        asked: Any = {"query": "1", "start": START_S, "end": START_S + seconds, "step": "1"}
        for client in both:
            answer = await client.get("/api/v1/query_range", params=asked)
            assert answer.status_code == status, (client.base_url, seconds)


async def test_samples_of_a_range_are_as_they_were_sent(both: Both) -> None:
    for query in (
        "temperature[5m]",
        "odd[1m]",
        "build_info[20m]",
        "odd[2m:30s]",
        '"text"',
        "12.50",
    ):
        asked = {"time": START_S + 900.5}
        ours, theirs = [await asked_of(one, "/api/v1/query", asked, query) for one in both]
        assert_same(ours, theirs, query)


async def test_names_and_values_are_the_same(both: Both) -> None:
    for path, query in (
        ("/api/v1/labels", {}),
        ("/api/v1/labels", {"match[]": ["temperature", "odd"]}),
        ("/api/v1/label/room/values", {}),
        ("/api/v1/label/__name__/values", {"match[]": '{instance="a"}'}),
        ("/api/v1/series", {"match[]": ["temperature", 'build_info{instance="a"}']}),
        ("/api/v1/series", {"match[]": "build_info", "end": START_S + 300}),
    ):
        asked: Any = {"start": START_S, "end": END_S} | query
        ours, theirs = [(await one.get(path, params=asked)).json() for one in both]
        assert ours["status"] == theirs["status"] == "success"
        assert sorted(map(key, ours["data"])) == sorted(map(key, theirs["data"])), (path, query)


async def test_empty_parameters_are_treated_as_absent(both: Both) -> None:
    for asked in ({"metric": "temperature", "limit": ""}, {"metric": "", "limit": ""}):
        for client in both:
            answer = await client.get("/api/v1/metadata", params=asked)
            assert answer.json()["status"] == "success", answer.text


async def test_composed_queries_have_the_same_answer(both: Both) -> None:
    chance = Random(11)
    succeeded = 0
    for _ in range(2_000 if IS_THOROUGH else 150):
        query = a_query(chance)
        asked = {"start": START_S + 300.5, "end": END_S, "step": "61"}
        ours, theirs = [await asked_of(one, "/api/v1/query_range", asked, query) for one in both]
        assert ours[0] == theirs[0], (query, ours, theirs)
        if ours[0] == "success":
            assert_same(ours, theirs, query)
            succeeded += 1
    assert succeeded > 50


async def asked_of(
    client: AsyncClient, path: str, asked: Mapping[str, object], query: str
) -> Answer:
    answer = await client.post(path, data={**asked, "query": query})
    document = answer.json()
    if document["status"] != "success":
        return document["errorType"], document["error"]
    return "success", document["data"]


def assert_same(ours: Answer, theirs: Answer, query: str) -> None:
    assert ours[0] == theirs[0], (query, ours, theirs)
    our_data: Any = ours[1]
    their_data: Any = theirs[1]
    assert our_data["resultType"] == their_data["resultType"]
    mine, others = normal(our_data), normal(their_data)
    assert mine.keys() == others.keys(), query
    for name, samples in mine.items():
        assert [at for at, _ in samples] == [at for at, _ in others[name]], (query, name)
        for (at, value), (_, expected) in zip(samples, others[name], strict=True):
            assert is_close(value, expected), (query, name, at, value, expected)


def normal(data: Any) -> dict[str, list[tuple[float, str]]]:
    """Samples by what their series is called."""
    if data["resultType"] in {"scalar", "string"}:
        return {"": [tuple(data["result"])]}
    return {
        key(one["metric"]): [tuple(pair) for pair in one.get("values") or [one["value"]]]
        for one in data["result"]
    }


def key(one: object) -> str:
    return json.dumps(one, sort_keys=True)


def is_close(ours: str, theirs: str) -> bool:
    try:
        a, b = float(ours), float(theirs)
    except ValueError:
        return ours == theirs
    return (
        a == b
        or (math.isnan(a) and math.isnan(b))
        or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    )
