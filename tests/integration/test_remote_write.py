"""POST /api/v1/write: the responses to Prometheus and vmagent, and what is stored."""

from datetime import timedelta

import cramjam
import pytest
from conftest import execute
from database_proxy import proxied
from httpx import AsyncClient, Response
from integration.conftest import serving
from protobuf_wire import (
    Table,
    bits_field,
    bytes_field,
    double_field,
    label,
    labels,
    number_field,
    sample,
    snappy,
    write_request,
)
from pushing import find_stored, find_values, now_ms

from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.model.samples import STALE_NAN_BITS
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository

PROTOBUF = "application/x-protobuf"
FIRST = f"{PROTOBUF};proto=prometheus.WriteRequest"
SECOND = f"{PROTOBUF};proto=io.prometheus.write.v2.Request"

BITS = "SELECT encode(float8send(value), 'hex') FROM samples ORDER BY at"


async def write(
    client: AsyncClient, body: bytes, content_type: str = FIRST, **headers: str
) -> Response:
    return await client.post(
        "/api/v1/write",
        content=snappy(body),
        headers={"Content-Type": content_type, "Content-Encoding": "snappy", **headers},
    )


def written(answer: Response) -> dict[str, int]:
    """What the answer says is written, of what."""
    beginning, end = "x-prometheus-remote-write-", "-written"
    return {
        name.removeprefix(beginning).removesuffix(end): int(value)
        for name, value in answer.headers.items()
        if name.startswith(beginning)
    }


@pytest.mark.parametrize("content_type", [FIRST, PROTOBUF, f"{PROTOBUF}; charset=utf-8"])
async def test_samples_are_on_disk_when_they_are_acknowledged(
    client: AsyncClient, database: Database, content_type: str
) -> None:
    now = now_ms()
    body = write_request(
        labels("up", host="a") + sample(1.0, now) + sample(0.5, now + 1),
        labels("up", host="b") + sample(None, now),
    )

    answer = await write(client, body, content_type)

    assert (answer.status_code, answer.content, written(answer)) == (204, b"", {})
    assert await find_stored(database, "up") == [
        ({"host": "a"}, now * 1_000, 1.0),
        ({"host": "a"}, now * 1_000 + 1_000, 0.5),
        ({"host": "b"}, now * 1_000, 0.0),
    ]


async def test_both_versions_store_the_same_series(client: AsyncClient, database: Database) -> None:
    now, table = now_ms(), Table()
    second = table.request(table.labels("up", host="a") + sample(2.0, now + 1, now - 9_000))

    await write(client, write_request(labels("up", host="a") + sample(1.0, now)))
    answer = await write(client, second, SECOND)

    assert answer.status_code == 204
    assert written(answer) == {"samples": 1, "histograms": 0, "exemplars": 0}
    assert await find_stored(database, "up") == [
        ({"host": "a"}, now * 1_000, 1.0),
        ({"host": "a"}, now * 1_000 + 1_000, 2.0),
    ]


async def test_sending_a_request_again_changes_nothing(
    client: AsyncClient, database: Database
) -> None:
    now, table = now_ms(), Table()
    body = table.request(table.labels("up") + sample(1.0, now))

    answers = [await write(client, body, SECOND) for _ in range(3)]

    assert [written(answer)["samples"] for answer in answers] == [1, 1, 1]
    assert await find_values(database, "up") == {now * 1_000: 1.0}


async def test_stale_markers_and_other_nans_are_kept_bit_for_bit(
    client: AsyncClient, database_url: str
) -> None:
    now = now_ms()
    bits = [STALE_NAN_BITS, 0x7FF8_0000_0000_0001, 0xFFF0_0000_0000_0000, 1 << 63]
    fields = [
        bytes_field(2, bits_field(1, one) + number_field(2, now + place))
        for place, one in enumerate(bits)
    ]

    answer = await write(client, write_request(labels("up") + b"".join(fields)))

    assert answer.status_code == 204
    assert execute(database_url, BITS).split() == [f"{one:016x}" for one in bits]


@pytest.mark.parametrize("content_type", [FIRST, SECOND])
async def test_invalid_items_are_named_and_valid_ones_stored(
    client: AsyncClient, database: Database, content_type: str
) -> None:
    now, table = now_ms(), Table()
    if content_type == FIRST:
        good, old = labels("good", host="a"), labels("old", host="a")
        nameless = label(b"host", b"a")
    else:
        good, old = table.labels("good", host="a"), table.labels("old", host="a")
        nameless = table.labels("", host="a")
    series = [
        good + sample(1.0, now),
        old + sample(1.0, 5) + sample(2.0, now),
        nameless + sample(1.0, now),
    ]
    body = write_request(*series) if content_type == FIRST else table.request(*series)

    answer = await write(client, body, content_type)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    first, second = answer.text.splitlines()
    assert first.startswith(
        '2 samples refused, 2 stored; series 1, sample 0 of old{host="a"}: too_old: 5, '
        "read as milliseconds, is before "
    )
    assert second.startswith("series 2, ")
    assert "invalid_metric" in second
    assert written(answer).get("samples") == (None if content_type == FIRST else 2)
    assert await find_values(database, "good") == {now * 1_000: 1.0}
    assert await find_values(database, "old") == {now * 1_000: 2.0}


async def test_the_first_ten_of_many_reasons_are_given(client: AsyncClient) -> None:
    body = write_request(*(labels("up", n=str(n)) + sample(1.0, 5) for n in range(25)))

    lines = (await write(client, body)).text.splitlines()

    assert len(lines) == 11
    assert lines[0].startswith("25 samples refused, 0 stored; ")
    assert lines[-1] == "and 15 more"


async def test_what_has_many_samples_takes_one_of_the_ten_lines(client: AsyncClient) -> None:
    empty = number_field(1, 0) + number_field(4, 0) + number_field(15, 5)  # `+Inf`, sum and count
    names = [f"took_{n}" for n in range(12)]
    body = write_request(*(labels(name) + bytes_field(4, empty) for name in names))

    lines = (await write(client, body)).text.splitlines()

    assert [name in line for name, line in zip(names, lines, strict=False)] == [True] * 10 + [False]
    assert lines[0].startswith("36 samples refused, 0 stored; series 0, histogram 0 of took_0: ")
    assert lines[-1] == "and 6 more"


async def test_metadata_are_stored_even_if_nothing_else_is_sent(
    client: AsyncClient, database: Database
) -> None:
    metadata = bytes_field(2, b"up") + number_field(1, 2) + bytes_field(4, b"Is it?")
    table = Table()
    second = table.request(
        table.labels("size") + sample(1.0, now_ms()) + table.metadata(1, "So big.", "bytes")
    )

    answers = [
        await write(client, write_request(metadata=[metadata])),
        await write(client, second, SECOND),
    ]

    assert [answer.status_code for answer in answers] == [204, 204]
    async with database.reading() as connection:
        stored = await MetadataRepository(connection, DEFAULT_TENANT_ID).list()
    assert stored == {
        "size": Metadata("counter", "bytes", "So big."),
        "up": Metadata("gauge", "", "Is it?"),
    }


async def test_native_histograms_are_stored_as_classic_ones(
    client: AsyncClient, database: Database
) -> None:
    now, table = now_ms(), Table()
    bucket = bytes_field(11, number_field(1, 2) + number_field(2, 1)) + bytes_field(12, b"\x06")
    encoded = number_field(1, 3) + double_field(3, 4.5) + bucket
    body = table.request(
        table.labels("took", host="a") + bytes_field(3, encoded + number_field(15, now)),
        table.labels("took", host="b") + bytes_field(3, encoded + number_field(15, 5)),
        table.labels("took", host="c") + bytes_field(3, number_field(15, now) + number_field(1, 1)),
        table.labels("took", host="d") + sample(1.0, now) + bytes_field(4, double_field(2, 1.0)),
    )

    answer = await write(client, body, SECOND)

    assert answer.status_code == 400
    assert written(answer) == {"samples": 1, "histograms": 1, "exemplars": 0}
    assert "histogram 0 of took" in answer.text
    assert "invalid_histogram" in answer.text
    host = {"host": "a"}
    assert await find_stored(database, "took_count") == [(host, now * 1_000, 3.0)]
    assert await find_stored(database, "took_sum") == [(host, now * 1_000, 4.5)]
    stored = await find_stored(database, "took_bucket")
    assert {more["le"]: value for more, _, value in stored} == {"1.0": 0, "2.0": 3, "+Inf": 3}
    metrics = (await client.get("/metrics")).text
    assert 'infrawatch_exemplars_ignored_total{format="remote_write_2"} 1.0' in metrics


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Content-Type": "application/json"}, "application/x-protobuf"),
        ({"Content-Type": f"{PROTOBUF};proto=other.Message"}, "io.prometheus.write.v2.Request"),
        ({"Content-Encoding": "gzip"}, "snappy"),
    ],
)
async def test_unsupported_content_is_415(
    client: AsyncClient, headers: dict[str, str], says: str
) -> None:
    answer = await client.post(
        "/api/v1/write", content=b"0", headers={"Content-Type": SECOND, **headers}
    )

    assert answer.status_code == 415
    assert says in answer.text
    assert written(answer) == {}


@pytest.mark.parametrize(
    "content", [b"", b"0", snappy(b"\x0a\x05abc"), snappy(bytes_field(9, b"what?"))]
)
@pytest.mark.parametrize("content_type", [FIRST, SECOND])
async def test_a_body_that_cannot_be_read_is_400(
    client: AsyncClient, content: bytes, content_type: str
) -> None:
    answer = await client.post(
        "/api/v1/write",
        content=content,
        headers={"Content-Type": content_type, "Content-Encoding": "snappy"},
    )

    assert answer.status_code == 400
    assert answer.text.startswith("malformed_body: ")
    nothing = dict.fromkeys(("samples", "histograms", "exemplars"), 0)
    assert written(answer) == (nothing if content_type == SECOND else {})


async def test_a_body_is_bounded_before_it_is_inflated(
    database_url: str,
) -> None:
    async with (
        serving(database_url, max_body_bytes=2_000) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        answers = [
            await write(client, bytes(2_001)),
            await client.post("/api/v1/write", content=b"\xff\xff\xff\xff\x0f"),  # says 4 GiB
            await write(client, write_request(labels("up") + sample(1.0, now_ms()))),
        ]

    assert [answer.status_code for answer in answers] == [413, 413, 204]
    assert "INFRAWATCH_MAX_BODY_BYTES" in answers[0].text


async def test_zstd_bodies_of_vmagent_are_read(client: AsyncClient, database: Database) -> None:
    now = now_ms()
    body = bytes(cramjam.zstd.compress(write_request(labels("up") + sample(1.0, now))))

    answer = await client.post(
        "/api/v1/write",
        content=body,
        headers={"Content-Type": PROTOBUF, "Content-Encoding": "zstd"},
    )

    assert answer.status_code == 204
    assert await find_values(database, "up") == {now * 1_000: 1.0}


async def test_a_large_request_is_stored_whole(client: AsyncClient, database: Database) -> None:
    now = now_ms()
    samples = b"".join(sample(float(n), now - n) for n in range(1_000))
    body = write_request(*(labels("up", host=str(n)) + samples for n in range(60)))

    answer = await write(client, body)

    assert (len(body) > 1024 * 1024, answer.status_code) == (True, 204)
    assert len(await find_stored(database, "up")) == 60_000


async def test_during_an_outage_of_postgresql_senders_are_told_to_retry(database_url: str) -> None:
    async with (
        proxied(database_url) as proxy,
        serving(proxy.url, write_deadline=timedelta(seconds=1)) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        table = Table()
        body = table.request(table.labels("up") + sample(1.0, now_ms()))
        proxy.close()

        answer = await write(client, body, SECOND)

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert written(answer) == dict.fromkeys(("samples", "histograms", "exemplars"), 0)
