"""GET /v1/samples: formats, spans, and what arrives last."""

import csv
import io
import json
import math
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from httpx import AsyncClient, Response
from stored import STALE, named, store

from infrawatch.model.samples import STALE_NAN_BITS
from infrawatch.model.timerange import TimeRange
from infrawatch.store.database import Database
from infrawatch.store.samples import EVER, SampleRepository

SECOND = 1_000_000
NOON_US = 1_790_000_000 * SECOND
NOON = 1_790_000_000


async def ask(client: AsyncClient, accept: str = "*/*", **parameters: Any) -> Response:
    answer = await client.get(
        "/v1/samples",
        params={"match": "up", "start": 0, "end": NOON + 3600, **parameters},
        headers={"Accept": accept},
    )
    assert answer.status_code == 200, answer.text
    return answer


async def times(client: AsyncClient, **parameters: Any) -> list[int]:
    series = (await ask(client, precision="s", **parameters)).json()["series"]
    return [time for one in series for time, _ in one["samples"]]


async def test_samples_come_by_series_and_time(client: AsyncClient, database: Database) -> None:
    a, b = named("up", host="a"), named("up", host="b")
    ids = await store(
        database,
        {
            a: [(NOON_US + SECOND, 1.5), (NOON_US, 1.0), (NOON_US + 2 * SECOND, -7.25e300)],
            b: [(NOON_US, 0.0)],
            named("other", host="a"): [(NOON_US, 9.0)],
        },
    )

    answer = await ask(client)

    shown = [
        {"id": str(ids[b]), "metric": "up", "labels": {"host": "b"}, "samples": [[NOON * 1000, 0]]},
        {
            "id": str(ids[a]),
            "metric": "up",
            "labels": {"host": "a"},
            "samples": [
                [NOON * 1000, 1.0],
                [NOON * 1000 + 1000, 1.5],
                [NOON * 1000 + 2000, -7.25e300],
            ],
        },
    ]
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"series": sorted(shown, key=lambda one: int(str(one["id"])))}


async def test_a_series_without_samples_in_the_span_is_left_out(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): [(NOON_US, 1.0)]})

    assert (await ask(client, start=NOON + 1)).json() == {"series": []}
    assert (await ask(client, match="nothing")).json() == {"series": []}


async def test_the_start_belongs_to_the_span_and_the_end_does_not(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): [(NOON_US + n * SECOND, 0.0) for n in range(5)]})

    assert await times(client, start=NOON + 1, end=NOON + 3) == [NOON + 1, NOON + 2]
    assert await times(client, start=NOON + 1, end=NOON + 1) == []
    assert await times(client, start=f"{NOON}.000001", end=f"{NOON + 1}.000001") == [NOON + 1]


async def test_times_are_rfc_3339_seconds_or_a_distance_from_now(
    client: AsyncClient, database: Database
) -> None:
    now = int(datetime.now(UTC).timestamp())
    await store(database, {named("up"): [((now - age) * SECOND, 0.0) for age in (7200, 1800, 0)]})
    after_all = {"end": now + 60}

    assert await times(client, start="-1h", **after_all) == [now - 1800, now]
    assert await times(client, start="-1h", end="-10m") == [now - 1800]
    assert await times(client, start=now - 7200, end="now") == [now - 7200, now - 1800, now]
    rfc = datetime.fromtimestamp(now - 1800, UTC).isoformat()
    assert await times(client, start=rfc, **after_all) == [now - 1800, now]
    assert await times(client, start=rfc.replace("+00:00", "Z"), end="now") == [now - 1800, now]


async def test_a_span_that_makes_no_sense_is_refused(client: AsyncClient) -> None:
    for start, end in (
        ("yesterday", "now"),
        ("2026-01-31T12:00:00", "now"),
        ("now", "-1h"),
        ("-1", "now"),
        (str(NOON * 1000), "now"),
        ("1969-12-31T23:59:59Z", "now"),
        ("2026-02-30T00:00:00Z", "now"),
        ("-99999999999y", "now"),
        ("0", "+Inf"),
    ):
        for path in ("/v1/samples", "/v1/range"):
            answer = await client.get(path, params={"match": "up", "start": start, "end": end})

            assert answer.status_code == 422, start
            assert answer.json()["code"] == "invalid_time"


async def test_the_same_samples_come_as_ndjson(client: AsyncClient, database: Database) -> None:
    await store(
        database,
        {named("up", host=h): [(NOON_US, 1.0), (NOON_US + SECOND, math.nan)] for h in ("a", "b")},
    )

    answer = await ask(client, "application/x-ndjson")

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == (await ask(client)).json()["series"]
    assert len(lines) == 2


async def test_the_same_samples_come_as_csv(client: AsyncClient, database: Database) -> None:
    labels = {"host": 'a "quoted", name', "path": "C:\\é\nnext"}
    await store(
        database,
        {named("up", **labels): [(NOON_US, 1.5), (NOON_US + 1, math.inf), (NOON_US + 2, STALE)]},
    )

    answer = await ask(client, "text/csv", precision="us")

    assert answer.headers["content-type"].startswith("text/csv")
    head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert head == ["series_id", "metric", "labels", "time", "value"]
    [series] = (await ask(client, precision="us")).json()["series"]
    for row, (time, value) in zip(rows, series["samples"], strict=True):
        assert row[:2] == [series["id"], "up"]
        assert json.loads(row[2]) == labels
        assert row[3] == str(time)
        assert row[4] == ("" if value is None else str(value))


async def test_the_format_depends_on_accept_and_vary_is_set(client: AsyncClient) -> None:
    for accept in ("*/*", "text/csv;q=0.5, application/x-ndjson", "text/csv", "application/jsonl"):
        answer = await ask(client, accept)

        wanted = accept.rpartition(" ")[2].replace("*/*", "application/json")
        assert answer.headers["content-type"].partition(";")[0] == wanted
        assert "Accept" in re.split(", *", answer.headers["vary"])


async def test_values_json_has_no_numbers_for_come_as_text_and_a_stale_marker_as_null(
    client: AsyncClient, database: Database
) -> None:
    values = [math.nan, math.inf, -math.inf, STALE, -0.0, 5e-324, 1.7976931348623157e308, 0.1]
    told = [(NOON_US + n, value) for n, value in enumerate(values)]
    await store(database, {named("up"): told})

    answer = await ask(client)

    [series] = answer.json()["series"]
    shown = ["NaN", "+Inf", "-Inf", None, *values[4:]]
    assert [repr(value) for _, value in series["samples"]] == [repr(one) for one in shown]


async def test_every_bit_of_a_value_survives_the_journal(database: Database) -> None:
    quiet, signalling = 0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001
    bits = np.array([STALE_NAN_BITS, quiet, quiet + 7, signalling, -1, -(2**63), 1], np.int64)
    told = [(NOON_US + n, value) for n, value in enumerate(bits.view(np.float64).tolist())]
    ids = await store(database, {named("up"): told})

    async with database.reading() as connection:
        read = await SampleRepository(connection, max_samples=100).read(list(ids.values()), EVER)

    assert read.values.view(np.int64).tolist() == bits.tolist()


async def test_times_are_integers_in_the_precision_asked_for(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): [(NOON_US + 123_456, 1.0)]})

    for precision, scale in {"s": 1e-6, "ms": 1e-3, "us": 1, "ns": 1000}.items():
        [series] = (await ask(client, precision=precision)).json()["series"]

        [[time, _]] = series["samples"]
        assert isinstance(time, int)
        assert time == math.floor((NOON_US + 123_456) * scale)


async def test_the_later_arrival_wins_whichever_writer_took_it(
    client: AsyncClient, database: Database
) -> None:
    random = np.random.default_rng(7)
    expected: dict[int, float] = {}
    for _ in range(20):  # each with a writer of its own
        told = [
            (NOON_US + int(second) * SECOND, float(value))
            for second, value in zip(random.integers(0, 10, 6), random.random(6), strict=True)
        ]
        await store(database, {named("up"): told})
        expected |= dict(told)

    [series] = (await ask(client, precision="us")).json()["series"]

    assert dict(series["samples"]) == expected


async def test_the_later_arrival_wins_when_postgresql_sorts_on_disk(database: Database) -> None:
    a, told = named("up"), [(NOON_US + n, 0.0) for n in range(100)]
    [series_id] = (await store(database, {a: told})).values()
    for value in range(1, 400):
        await store(database, {a: [(time, float(value)) for time, _ in told]})

    async with database.reading() as connection:
        await connection.exec_driver_sql("SET LOCAL work_mem = '64kB'")
        read = await SampleRepository(connection, max_samples=10**6).read(
            [series_id], TimeRange(NOON_US, NOON_US + 100)
        )

    assert set(read.values.tolist()) == {399.0}


async def test_a_large_answer_begins_before_it_is_complete(
    client: AsyncClient, database: Database
) -> None:
    count = 200_000
    await store(database, {named("up"): [(NOON_US + n, n / 7) for n in range(count)]})

    headers = {"Accept-Encoding": "identity"}
    everything: dict[str, Any] = {"match": "up", "start": 0}
    async with client.stream("GET", "/v1/samples", params=everything, headers=headers) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        first, *others = [piece async for piece in answer.aiter_raw()]

    assert len(first) < 1 << 20
    assert b"".join((first, *others)).count(b"[17900000") == count


async def test_an_answer_of_many_series_is_streamed_however_few_samples_they_have(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up", n=str(n)): [(NOON_US, 1.0)] for n in range(2_000)})
    noon = NOON_US / 1_000_000
    asked: dict[str, Any] = {"match": "up", "start": noon, "end": noon + 1}

    samples = await client.get("/v1/samples", params=asked)
    ranges = await client.get("/v1/range", params={**asked, "step": "1s"})

    for answer in (samples, ranges):
        assert len(answer.json()["series"]) == 2_000
        assert answer.headers["transfer-encoding"] == "chunked"


async def test_a_large_answer_is_correct(client: AsyncClient, database: Database) -> None:
    random = np.random.default_rng(3)
    told = {
        named("up", host=f"h{n}"): [
            (NOON_US + int(time), float(value))
            for time, value in zip(
                np.cumsum(random.integers(1, 1000, 20_000)), random.normal(size=20_000), strict=True
            )
        ]
        for n in range(5)
    }
    ids = await store(database, told)

    series = (await ask(client, precision="us")).json()["series"]

    assert {int(one["id"]): [tuple(sample) for sample in one["samples"]] for one in series} == {
        ids[name]: samples for name, samples in told.items()
    }
    for one in series:
        assert all(earlier < later for (earlier, _), (later, _) in pairwise(one["samples"]))
