"""Line protocol: the responses, and what is stored."""

import gzip
import zlib
from typing import Any

import pytest
from httpx import AsyncClient, Response
from pushing import find_stored, now_ms

from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITES = ["/write?db=telegraf", "/api/v2/write?org=o&bucket=b", "/api/v3/write_lp?db=d"]
NS_PER_MS = 1_000_000
UNITS_V1 = {
    **dict.fromkeys(("n", "ns"), 1),
    **dict.fromkeys(("u", "us", "µ"), 1000),
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


async def write(client: AsyncClient, path: str, body: str | bytes, **headers: str) -> Response:
    return await client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("path", WRITES)
async def test_acknowledged_samples_are_stored(
    shared_client: AsyncClient, shared_database: Database, path: str
) -> None:
    time_ns = now_ms() * NS_PER_MS
    metric = f"disk{WRITES.index(path)}"

    answer = await write(
        shared_client,
        path,
        f"{metric},host=a,path=/my\\ disk used=1.5,free=42i,ok=t {time_ns}\n"
        f"{metric},host=b used=2.5 {time_ns + 1000}\n",
    )

    assert (answer.status_code, answer.content) == (204, b"")
    labels = {"host": "a", "path": "/my disk"}
    time_us = time_ns // 1000
    assert await find_stored(shared_database, f"{metric}_used") == [
        (labels, time_us, 1.5),
        ({"host": "b"}, time_us + 1, 2.5),
    ]
    assert await find_stored(shared_database, f"{metric}_free") == [(labels, time_us, 42.0)]
    assert await find_stored(shared_database, f"{metric}_ok") == [(labels, time_us, 1.0)]


@pytest.mark.parametrize(
    ("path", "unit_ns"),
    [
        ("/write", 1),
        *((f"/write?precision={name}", unit_ns) for name, unit_ns in UNITS_V1.items()),
        *((f"/api/v2/write?precision={name}", UNITS_V1[name]) for name in ("ns", "us", "ms", "s")),
        ("/api/v3/write_lp?precision=nanosecond", 1),
        ("/api/v3/write_lp?precision=microsecond", 1000),
        ("/api/v3/write_lp?precision=millisecond", 10**6),
        ("/api/v3/write_lp?precision=second", 10**9),
    ],
)
async def test_times_count_in_the_precision_asked_for(
    shared_client: AsyncClient, shared_database: Database, path: str, unit_ns: int
) -> None:
    time = now_ms() * NS_PER_MS // unit_ns
    metric = f"precise_{zlib.crc32(path.encode())}"

    assert (await write(shared_client, path, f"{metric} v=1 {time}")).status_code == 204

    [(_, time_us, _)] = await find_stored(shared_database, f"{metric}_v")
    assert time_us == time * unit_ns // 1000


async def test_version_3_derives_the_unit_from_the_magnitude(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now_s = now_ms() // 1000
    lines = [f"auto v={n} {(now_s - n) * 1000**n}" for n in range(4)]

    answer = await write(shared_client, "/api/v3/write_lp", "\n".join(lines))

    assert answer.status_code == 204
    stored = await find_stored(shared_database, "auto_v")
    assert [(time_us, value) for _, time_us, value in stored] == [
        ((now_s - n) * 1_000_000, n) for n in (3, 2, 1, 0)
    ]


PARTLY_WRONG = 'good v=1\n# comment\nbad\nmixed text="x",v=2\nold v=1 5000000000000001\ngood v=3'


@pytest.mark.parametrize("path", WRITES)
async def test_the_valid_part_of_a_bad_body_is_stored(
    shared_client: AsyncClient, shared_database: Database, path: str
) -> None:
    prefix = f"part{WRITES.index(path)}_"
    body = "".join(
        line if line.startswith("#") else prefix + line
        for line in PARTLY_WRONG.splitlines(keepends=True)
    )

    assert (await write(shared_client, path, body)).status_code == 400

    good = await find_stored(shared_database, f"{prefix}good_v")
    assert [value for *_, value in good] == [3.0], (
        "of two samples with the same time, the later wins"
    )
    assert len(await find_stored(shared_database, f"{prefix}mixed_v")) == 1
    assert await find_stored(shared_database, f"{prefix}mixed_text") == []


async def test_version_1_reports_a_partial_write_with_its_count(shared_client: AsyncClient) -> None:
    answer = await write(shared_client, "/write", PARTLY_WRONG)

    error = answer.json()["error"]
    assert answer.json().keys() == {"error"}
    assert error.startswith("partial write: line 3: unable to parse 'bad': column 4: expected")
    assert "\nline 4: field text: a string cannot be stored" in error
    assert "\nline 5: time: 5000000000000001, read as nanoseconds, is before " in error
    assert error.endswith("(too_old) dropped=3")


async def test_version_2_names_the_first_line(shared_client: AsyncClient) -> None:
    answer = await write(shared_client, "/api/v2/write", PARTLY_WRONG)

    error = answer.json()
    assert (error["code"], error["line"]) == ("invalid", 3)
    assert error["message"].startswith("3 samples refused, 3 stored: line 3: column 4: ")
    assert "line 4: field text: a string cannot be stored" in error["message"]
    assert "line 5: time: 5000000000000001, read as nanoseconds, is before " in error["message"]


async def test_version_3_lists_every_line(shared_client: AsyncClient) -> None:
    answer = await write(shared_client, "/api/v3/write_lp?precision=ns", PARTLY_WRONG)

    assert answer.json()["error"] == "partial write of line protocol occurred"
    listed = answer.json()["data"]
    assert [(one["line_number"], one["original_line"]) for one in listed] == [
        (3, "bad"),
        (4, 'mixed text="x",v=2'),
        (5, "old v=1 5000000000000001"),
    ]
    assert [one["error_message"].rpartition("(")[2] for one in listed] == [
        "malformed_line)",
        "string_field)",
        "too_old)",
    ]


async def test_version_3_stores_nothing_if_requested(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    path = "/api/v3/write_lp?accept_partial=false&no_sync=true"

    answer = await write(shared_client, path, "whole v=1\nbad\nwhole v=NaN")

    assert answer.status_code == 400
    assert answer.json()["error"] == "parsing failed for write_lp endpoint"
    assert [one["line_number"] for one in answer.json()["data"]] == [2, 3]
    assert await find_stored(shared_database, "whole_v") == []
    assert (await write(shared_client, path, "whole v=1")).status_code == 204


async def test_a_hundred_of_many_errors_are_listed_and_the_rest_counted(
    shared_client: AsyncClient,
) -> None:
    body = "\n".join(f"bad{n}" for n in range(250))

    v1, v2, v3 = [(await write(shared_client, path, body)).json() for path in WRITES]

    assert v1["error"].endswith("; and 150 more errors dropped=250")
    assert v2["message"].endswith("; and 150 more errors")
    assert v3["error"].endswith("; and 150 more errors")
    assert len(v3["data"]) == 100


async def test_a_long_line_comes_back_short(shared_client: AsyncClient) -> None:
    answer = await write(shared_client, WRITES[2], "x" * 100_000)

    assert len(answer.content) < 1000


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("body", ["", "\n\n# nothing\n"])
async def test_a_body_without_lines_is_all_stored(
    shared_client: AsyncClient, path: str, body: str
) -> None:
    assert (await write(shared_client, path, body)).status_code == 204


@pytest.mark.parametrize("path", WRITES)
async def test_gzip_may_have_several_members(
    shared_client: AsyncClient, shared_database: Database, path: str
) -> None:
    metric = f"zipped{WRITES.index(path)}"
    time = now_ms() * NS_PER_MS
    lines = [f"{metric} v={n} {time + n * 1000}\n".encode() for n in (1, 2)]
    body = b"".join(map(gzip.compress, lines))

    answer = await write(shared_client, path, body, **{"content-encoding": "gzip"})

    assert answer.status_code == 204
    stored = await find_stored(shared_database, f"{metric}_v")
    assert [value for *_, value in stored] == [1.0, 2.0]


def _message(answer: Response) -> Any:
    error = answer.json()
    return error["message"] if "message" in error else error["error"]


@pytest.mark.parametrize("path", WRITES)
async def test_an_unreadable_body_is_refused_in_the_format_of_its_version(
    shared_client: AsyncClient, path: str
) -> None:
    for encoding, status in (("gzip", 400), ("lzma", 415)):
        answer = await write(shared_client, path, b"m v=1", **{"content-encoding": encoding})
        assert answer.status_code == status
        assert encoding in _message(answer)
    answer = await write(shared_client, path, b"m v=1\n" * 3_000_000)
    assert answer.status_code == 413
    assert "INFRAWATCH_MAX_BODY_BYTES" in _message(answer)


async def test_versions_1_and_2_answer_with_the_words_that_senders_look_for(
    shared_client: AsyncClient,
) -> None:
    headers = {"content-encoding": "gzip"}
    v1 = await write(shared_client, "/write", b"x", **headers)
    assert v1.json()["error"].startswith("unable to parse: ")
    v2 = await write(shared_client, "/api/v2/write", b"x" * 17_000_000)
    assert v2.json()["code"] == "request too large"


@pytest.mark.parametrize(
    "path", ["/write?precision=x", "/api/v2/write?precision=m", "/api/v3/write_lp?precision=n"]
)
async def test_an_unknown_precision_is_refused_with_the_known_ones(
    shared_client: AsyncClient, path: str
) -> None:
    answer = await write(shared_client, path, "m v=1")

    assert answer.status_code == 400
    assert "precision: it should be" in _message(answer)
    assert "'ms'" in _message(answer)


async def test_a_large_body_is_read_in_a_thread(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    time = now_ms() * NS_PER_MS
    lines = [f"large,host=a v={n} {time - n * 1000}" for n in range(40_000)]

    answer = await write(shared_client, "/write", "\n".join(lines))

    assert answer.status_code == 204
    assert len(await find_stored(shared_database, "large_v")) == 40_000


async def test_ping_and_health_report_a_writable_server(shared_client: AsyncClient) -> None:
    ping, head = await shared_client.get("/ping"), await shared_client.head("/ping")
    health = await shared_client.get("/health")

    assert (ping.status_code, head.status_code, health.status_code) == (204, 204, 200)
    assert ping.headers["x-influxdb-version"] == head.headers["x-influxdb-version"]
    assert health.json()["status"] == "pass"


async def test_databases_need_not_be_created(shared_client: AsyncClient) -> None:
    expected = {"results": [{"statement_id": 0}]}
    create = 'CREATE DATABASE "telegraf"'

    answers = [
        await shared_client.post("/query", data={"q": create}),
        await shared_client.post("/query", params={"q": create}),
        await shared_client.get("/query", params={"q": "show databases"}),
    ]

    assert [(one.status_code, one.json()) for one in answers] == [(200, expected)] * 3


async def test_other_queries_are_pointed_to_where_answers_are(shared_client: AsyncClient) -> None:
    for answer in (
        await shared_client.get("/query", params={"q": "SELECT * FROM cpu"}),
        await shared_client.post("/query", data={"q": "CREATE DATABASES"}),
        await shared_client.post("/query", content=b"\xff"),
        await shared_client.get("/query"),
    ):
        assert answer.status_code == 400
        assert "/v1/range" in answer.json()["error"]
