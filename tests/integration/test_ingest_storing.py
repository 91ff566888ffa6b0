"""What is acknowledged is stored: every value, time, unit, label and encoding."""

import gzip
import json
import struct
import zlib
from collections.abc import Callable

import cramjam
import pytest
from conftest import execute
from httpx import AsyncClient
from pushing import batch, find_count, find_stored, find_values, now_ms, push, push_lines, series
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
INT64_EDGES = [2**63 - 1, -(2**63), 2**62, -(2**62), 0, -1, 10**18, 10**16, 10**13, 10**10]
FOLDED = "infrawatch_samples_folded_total"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": lambda body: bytes(cramjam.zstd.compress(body)),
    "deflate": zlib.compress,
    "br": lambda body: bytes(cramjam.brotli.compress(body)),
}


async def test_an_acknowledged_batch_is_committed(
    shared_client: AsyncClient, shared_database_url: str
) -> None:
    for value in range(20):
        assert (await push(shared_client, series("acked", [now_ms(), value]))).status_code == 200
        seen = execute(shared_database_url, "SELECT count(*) FROM samples WHERE metric = 'acked'")
        assert int(seen) >= 1
        latest = "SELECT value FROM samples WHERE metric = 'acked' ORDER BY at DESC LIMIT 1"
        assert float(execute(shared_database_url, latest)) == value


async def test_writing_commits_synchronously(shared_database: Database) -> None:
    async with shared_database.writing() as connection:
        setting = await connection.exec_driver_sql("SHOW synchronous_commit")
        assert setting.scalar_one() == "on"


async def test_no_statement_of_ours_is_compiled(database_url: str) -> None:
    name = database_url.rpartition("/")[2]
    execute(database_url, f"ALTER DATABASE {name} SET jit = on")
    async with Database.open(database_url) as database:
        for transaction in (database.reading(), database.writing()):
            async with transaction as connection:
                assert (await connection.exec_driver_sql("SHOW jit")).scalar_one() == "off"


@pytest.mark.parametrize("precision", ["s", "ms", "us", "ns"])
async def test_times_are_in_the_unit_that_was_asked_for(
    shared_client: AsyncClient, shared_database: Database, precision: str
) -> None:
    metric = f"unit_{precision}"
    unit_ns = UNITS_NS[precision]
    second_ns = now_ms() // 1_000 * 10**9
    times = [second_ns // unit_ns, second_ns // unit_ns + 1]

    answer = await push(
        shared_client, series(metric, *[[time, 1] for time in times]), precision=precision
    )

    assert answer.status_code == 200
    stored = await find_values(shared_database, metric)
    assert list(stored) == sorted({time * unit_ns // 1_000 for time in times})


async def test_milliseconds_are_the_default(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()
    await push(shared_client, series("default_unit", [now, 1]))
    await push_lines(shared_client, series("default_unit", [now + 1, 2]))

    assert await find_values(shared_database, "default_unit") == {
        now * 1_000: 1.0,
        (now + 1) * 1_000: 2.0,
    }


@pytest.mark.parametrize("precision", ["s", "ms", "us", "ns"])
async def test_absurd_times_are_refused_and_never_wrap_into_good_ones(
    shared_client: AsyncClient, shared_database: Database, precision: str
) -> None:
    metric, unit_ns = f"absurd_{precision}", UNITS_NS[precision]
    now = now_ms() * 1_000_000 // unit_ns
    wrapping = [now + turns * 2**64 // (unit_ns // 1_000 or 1) for turns in (-1, 1)]
    times = [time for time in (*INT64_EDGES, *wrapping) if -(2**63) <= time < 2**63]
    far = [time for time in times if abs(time - now) * unit_ns > 20 * 86_400 * 10**9]

    answer = await push(
        shared_client,
        series(metric, *[[time, 1] for time in far], [now, 2]),
        precision=precision,
        partial="true",
    )

    assert answer.status_code == 207
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, len(far))
    assert {one["code"] for one in answer.json()["errors"]} == {"too_old", "too_far_in_future"}
    assert await find_values(shared_database, metric) == {now * unit_ns // 1_000: 2.0}


async def test_finer_times_that_fold_into_one_are_counted_and_the_last_wins(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    second_ns = now_ms() // 1_000 * 10**9
    before = await find_count(shared_client, FOLDED)

    answer = await push(
        shared_client,
        series("folded", *[[second_ns + ns, ns] for ns in (0, 999, 500, 1_000, 1_001, 2_000)]),
        precision="ns",
    )

    assert answer.json()["accepted"] == 6
    second_us = second_ns // 1_000
    assert await find_values(shared_database, "folded") == {
        second_us: 500.0,
        second_us + 1: 1001.0,
        second_us + 2: 2000.0,
    }
    assert await find_count(shared_client, FOLDED) - before == 3


@pytest.mark.parametrize("encoding", COMPRESSORS)
@pytest.mark.parametrize("lines", [False, True])
async def test_every_encoding_is_read(
    shared_client: AsyncClient, shared_database: Database, *, encoding: str, lines: bool
) -> None:
    metric = f"encoded_{encoding}_{lines}"
    now = now_ms()
    one = series(metric, *[[now - place, place] for place in range(1_000)])
    plain = json.dumps(one if lines else batch(one)).encode()

    answer = await shared_client.post(
        "/v1/samples",
        content=COMPRESSORS[encoding](plain),
        headers={
            "content-type": "application/x-ndjson" if lines else "application/json",
            "content-encoding": encoding,
        },
    )

    assert answer.status_code == 200
    assert len(await find_values(shared_database, metric)) == 1_000


async def test_every_finite_double_comes_through_bit_for_bit(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    values = [
        0.0,
        -0.0,
        5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        0.1,
        -1 / 3,
        2**53,
    ]
    now = now_ms()

    await push(
        shared_client, series("doubles", *[[now + place, one] for place, one in enumerate(values)])
    )

    stored = list((await find_values(shared_database, "doubles")).values())
    assert struct.pack("<8d", *stored) == struct.pack("<8d", *values)


async def test_labels_of_any_text_come_through(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    labels = {"host": "größe 🚀", "path": 'C:\\"quoted"\n\t', "a.b": "\u2028\x7f", "empty": ""}

    answer = await push(shared_client, {**series("labelled"), "labels": labels})

    assert answer.status_code == 200
    [(stored, _, _)] = await find_stored(shared_database, "labelled")
    assert stored == {name: value for name, value in labels.items() if value}


async def test_a_series_is_the_same_however_it_is_written(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()
    spellings = [
        '{"metric":"spelt","labels":{"host":"a","b":"c"},"samples":[[%d,0]]}',
        '{"metric": "spelt", "labels": {"b": "c", "host": "a"}, "samples": [[%d, 1]]}',
        '{"samples":[[%d,2]],"labels":{"host":"a","b":"\\u0063","x":""},"metric":"spelt"}',
        '{"metric":"spelt","labels":{"b":"x","b":"c","host":"a"},"samples":[[%d,3]],"type":"gauge"}',
    ]

    for place, spelling in enumerate(spellings):
        one = spelling % (now + place)
        assert (await push_lines(shared_client, one)).status_code == 200
        body = f'{{"series":[{spelling % (now + place + 100)}]}}'
        headers = {"content-type": "application/json"}
        assert (
            await shared_client.post("/v1/samples", content=body, headers=headers)
        ).status_code == 200

    stored = await find_stored(shared_database, "spelt")
    assert len(stored) == 2 * len(spellings)
    assert {json.dumps(labels, sort_keys=True) for labels, _, _ in stored} == {
        '{"b": "c", "host": "a"}'
    }


async def test_metadata_is_stored_when_it_is_sent(shared_client: AsyncClient) -> None:
    metadata = {"type": "counter", "unit": "s", "help": "How long."}
    gauge = {"type": "gauge", "unit": "", "help": "How high."}
    await push(shared_client, series("described", **metadata), series("undescribed"))
    assert await find_metadata(shared_client, "described") == metadata

    await push_lines(shared_client, series("described", type="gauge", help="How high."))
    assert await find_metadata(shared_client, "described") == gauge
    assert await find_metadata(shared_client, "undescribed") is None


async def find_metadata(client: AsyncClient, metric: str) -> dict[str, str] | None:
    known = (await client.get("/v1/metadata")).json()["metadata"]
    metadata = known.get(metric)
    return metadata and {name: metadata[name] for name in ("type", "unit", "help")}


async def test_metadata_of_a_refused_metric_is_ignored(shared_client: AsyncClient) -> None:
    noise = "".join(map(chr, range(0x4E00, 0x4E00 + 5_000)))  # too long for any index row

    answer = await push(
        shared_client, series(noise, type="gauge"), series("fine", type="gauge"), partial="true"
    )

    assert answer.status_code == 207
    assert answer.json()["accepted"] == 1


async def test_partial_counts_every_sample_once(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()
    wrong_name_and_old = series("9", [now, 1], [1, 1], [now, 2])
    mixed = series("counted_once", [now, 1], [1, 1], [now, "x"], [2, "y"])

    for send in (push, push_lines):
        answer = await send(shared_client, wrong_name_and_old, mixed, partial="true")
        assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 6)
    assert len(await find_values(shared_database, "counted_once")) == 1


async def test_errors_of_the_database_do_not_repeat_what_was_sent(
    shared_database: Database,
) -> None:
    wrong = text("SELECT CAST(:sent AS text) || no_column")

    with pytest.raises(DBAPIError, match="no_column") as failed:
        async with shared_database.writing() as connection:
            await connection.execute(wrong, {"sent": "s3cret"})

    assert "s3cret" not in str(failed.value)
