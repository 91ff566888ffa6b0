"""Budgets and deadlines of queries: a clear 422 or 503, without effect on others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

import cramjam
import pytest
from database_proxy import Road, proxied
from httpx import AsyncClient, Response
from integration.conftest import serving
from sqlalchemy import text
from stored import named, store

from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.errors import Overloaded
from infrawatch.model.timerange import TimeRange
from infrawatch.query import plan as query_plan
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository
from infrawatch.store.packed_samples import PackedSamples
from infrawatch.store.samples import SampleRepository

SECOND = 1_000_000
START = 1_790_000_000
SPAN: dict[str, Any] = {"match": "up", "start": START, "end": START + 3600}

READS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/series", {"match": "up"}),
    ("/v1/latest", {"match": "up"}),
    ("/v1/samples", SPAN),
    ("/v1/range", SPAN),
]
DECOMPRESS = {
    "zstd": cramjam.zstd.decompress,
    "br": cramjam.brotli.decompress,
    "gzip": cramjam.gzip.decompress,
}
EVERY_READ = [
    *READS,
    ("/v1/labels", {}),
    ("/v1/labels/host/values", {}),
    ("/v1/labels/__name__/values", {}),
    ("/v1/metadata", {}),
]


@asynccontextmanager
async def asking(database_url: str, **settings: Any) -> AsyncIterator[AsyncClient]:
    async with (
        serving(database_url, **settings) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


def assert_too_broad(answer: Response, *words: str) -> None:
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "query_too_broad"
    for word in words:
        assert word in problem["detail"]


async def test_too_many_series_are_refused_with_what_to_do(
    database_url: str, database: Database
) -> None:
    told = {named("up", host=f"h{n}"): [(START * SECOND, 1.0)] for n in range(11)}
    await store(database, told)

    async with asking(database_url, read_max_series=10) as client:
        for path, parameters in (
            ("/v1/samples", SPAN),
            ("/v1/range", SPAN),
            ("/v1/latest", {"match": "up", "max_age": "all"}),
            ("/v1/labels", {"match": "up"}),
            ("/v1/labels/host/values", {"match": "up"}),
        ):
            answer = await client.get(path, params=parameters)
            assert_too_broad(answer, "10 series", "INFRAWATCH_READ_MAX_SERIES", "add a label")

            fewer = {**parameters, "match": 'up{host!="h0"}'}
            assert (await client.get(path, params=fewer)).status_code == 200
        answer = await client.get("/v1/series", params={"match": "up"})
        assert len(answer.json()["series"]) == 11


async def test_series_that_were_not_looked_at_are_no_silent_gap(
    database_url: str, database: Database
) -> None:
    told = {named("up", host=f"h{n}"): [(START * SECOND, 1.0)] for n in range(3)}
    await store(database, told)
    span = {"match[]": "up", "start": str(START + 60)}

    async with asking(database_url, read_max_series=2) as client:
        answer = await client.get("/api/v1/series", params=span)
        assert (answer.status_code, "2 series" in answer.json()["error"]) == (422, True)
        answer = await client.get("/api/v1/series", params=span | {"limit": "9"})
        assert answer.json()["warnings"] == ["results truncated due to limit"]


async def test_too_many_samples_are_refused_with_what_to_do(
    database_url: str, database: Database
) -> None:
    told = [((START + n) * SECOND, 1.0) for n in range(1_001)]
    await store(database, {named("up"): told})

    async with asking(database_url, read_max_samples=1_000) as client:
        for path in ("/v1/samples", "/v1/range"):
            answer = await client.get(path, params=SPAN)
            assert_too_broad(answer, "1000 samples", "shorter span", "INFRAWATCH_READ_MAX_SAMPLES")

            less = {**SPAN, "start": START + 1}
            assert (await client.get(path, params=less)).status_code == 200
        await eventually_no_read_connection_is_in_use(client)


async def test_a_query_of_many_selectors_has_the_limits_of_one(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [((START + n) * SECOND, 1.0) for n in range(400)]
    await store(database, {named("up"): told})
    reads: list[int] = []
    fetch = SampleRepository.fetch

    async def counting(
        self: SampleRepository, ids: Sequence[int], span: TimeRange
    ) -> PackedSamples:
        stored = await fetch(self, ids, span)
        reads.append(len(stored))
        return stored

    monkeypatch.setattr(SampleRepository, "fetch", counting)
    selectors = [f'up{{host!="{n}"}}' for n in range(20)]
    async with asking(database_url, read_max_samples=1_000) as client:
        query: dict[str, Any] = {
            "query": f"sum_over_time(({' + '.join(selectors)})[10m:1s])",
            "time": START + 400,
        }
        answer = await client.get("/api/v1/query", params=query)
        assert answer.status_code == 422, answer.text
        assert "more than 1000 samples" in answer.json()["error"]
    assert len(reads) == 3


async def test_a_large_query_waits_for_others_no_longer_than_its_deadline(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})
    monkeypatch.setattr(query_plan, "_OFF_LOOP_SAMPLES", 0)
    monkeypatch.setattr(query_plan, "_LARGE_AT_ONCE", 0)  # as if others never ended

    async with asking(database_url, read_deadline=timedelta(seconds=0.5)) as client:
        for path in ("/v1/samples", "/v1/range"):
            answer = await client.get(path, params=SPAN)
            assert answer.status_code == 503
            assert answer.json()["code"] == "deadline_exceeded"
            assert "Retry-After" in answer.headers


async def test_a_query_at_many_moments_waits_for_others_even_with_few_samples(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})
    monkeypatch.setattr(query_plan, "_OFF_LOOP_SAMPLES", 100)
    monkeypatch.setattr(query_plan, "_LARGE_AT_ONCE", 0)  # as if others never ended
    span: dict[str, str | int] = {"query": "up", "start": START, "end": START + 1_000}
    subquery: dict[str, str | int] = {"query": "count_over_time(up[1h:1s])", "time": START}

    async with asking(database_url, read_deadline=timedelta(seconds=0.5)) as client:
        few = await client.get("/api/v1/query_range", params={**span, "step": 100})
        many = await client.get("/api/v1/query_range", params={**span, "step": 1})
        inside = await client.get("/api/v1/query", params=subquery)

    assert [answer.status_code for answer in (few, many, inside)] == [200, 503, 503]


async def test_too_many_steps_are_refused_with_what_to_do(
    database_url: str, database: Database
) -> None:
    told = {named("up", host=f"h{n}"): [(START * SECOND, 1.0)] for n in range(11)}
    await store(database, told)

    async with asking(database_url, read_max_samples=1_000) as client:
        many = await client.get("/v1/range", params={**SPAN, "step": "0.3"})
        assert_too_broad(many, "12000 steps", "11000", "longer step")
        many = await client.get("/v1/range", params={**SPAN, "step": "36"})
        assert_too_broad(many, "11 series of 100 steps", "INFRAWATCH_READ_MAX_SAMPLES")
        assert (await client.get("/v1/range", params={**SPAN, "step": "40"})).status_code == 200


async def test_a_read_that_takes_too_long_is_answered_with_retry_after(
    database_url: str, database: Database
) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})

    async with asking(database_url, read_deadline=timedelta(seconds=0.5)) as client:
        async with database.writing() as connection:
            await connection.execute(text("LOCK TABLE series, journal, metric_metadata"))
            for path, parameters in EVERY_READ:
                started = monotonic()
                answer = await client.get(path, params=parameters)

                assert answer.status_code == 503, path
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["code"] == "deadline_exceeded"
                assert "INFRAWATCH_READ_DEADLINE" in answer.json()["detail"]
                assert monotonic() - started < 5
        for path, parameters in EVERY_READ:
            await eventually_answers(client, path, parameters)
        await eventually_no_read_connection_is_in_use(client)


async def test_a_database_that_falls_silent_costs_a_read_no_more_than_its_deadline(
    database_url: str, database: Database
) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})

    async with (
        proxied(database_url) as proxy,
        asking(proxy.url, read_deadline=timedelta(seconds=0.5), read_pool_size=2) as client,
    ):
        assert (await client.get("/v1/samples", params=SPAN)).status_code == 200
        proxy.road = Road.SILENT
        for path, parameters in READS:
            started = monotonic()
            answer = await client.get(path, params=parameters)

            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert monotonic() - started < 5
        proxy.close()  # what is silent stays so; new connections find an open road
        proxy.road = Road.OPEN
        await eventually_answers(client)
        await eventually_no_read_connection_is_in_use(client)


async def test_an_unreachable_database_is_reported_at_once(
    database_url: str, database: Database
) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})

    async with proxied(database_url) as proxy, asking(proxy.url) as client:
        proxy.close()
        for path, parameters in EVERY_READ:
            answer = await client.get(path, params=parameters)

            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["code"] == "store_unavailable"
        proxy.road = Road.OPEN
        await eventually_answers(client)


async def test_more_readers_than_connections_wait_for_their_turn(
    database_url: str, database: Database
) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})

    async with asking(database_url, read_pool_size=2) as client:
        answers = await asyncio.gather(*(client.get("/v1/samples", params=SPAN) for _ in range(12)))

    assert {answer.status_code for answer in answers} == {200}


async def eventually_answers(
    client: AsyncClient, path: str = "/v1/samples", parameters: dict[str, Any] = SPAN
) -> None:
    async with asyncio.timeout(30):
        while (await client.get(path, params=parameters)).is_error:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def eventually_no_read_connection_is_in_use(client: AsyncClient) -> None:
    async with asyncio.timeout(10):
        while 'pool="read"} 0.0' not in (await client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_error_names_exhausted_connections(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrawatch.store.database.CONNECT_TIMEOUT_S", 1.0)
    async with Database.open(database_url, read_pool_size=1) as database, database.reading():
        with pytest.raises(Overloaded, match="in use"):
            async with database.reading():
                pytest.fail("there is no second connection")


async def test_an_unknown_path_is_a_problem(client: AsyncClient) -> None:
    for path in ("/v1", "/v1/", "/v1/nothing", "/v1/samples/1", "/api/v1/nothing"):
        answer = await client.get(path)

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "not_found"
        assert path in answer.json()["detail"]


async def test_a_dropped_upgrade_header_is_explained(client: AsyncClient) -> None:
    answer = await client.get("/v1/live")

    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"
    assert "proxy" in answer.json()["detail"]


async def test_a_method_that_does_not_fit_is_a_problem(client: AsyncClient) -> None:
    answer = await client.delete("/v1/samples")

    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
async def test_answers_are_compressed_as_accept_encoding_allows(
    client: AsyncClient, database: Database, accept: str
) -> None:
    await store(database, {named("up"): [((START + n) * SECOND, 0.5) for n in range(3_000)]})
    plain = await client.get(
        "/v1/samples", params=SPAN, headers={"Accept": accept, "Accept-Encoding": "identity"}
    )
    assert "content-encoding" not in plain.headers

    for encoding in ("zstd", "br", "gzip"):
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        async with client.stream("GET", "/v1/samples", params=SPAN, headers=headers) as answer:
            sent = b"".join([piece async for piece in answer.aiter_raw()])

        assert answer.headers["content-encoding"] == encoding
        assert {"Accept", "Accept-Encoding"} <= set(answer.headers["vary"].split(", "))
        assert len(sent) < len(plain.content) / 5
        assert bytes(DECOMPRESS[encoding](sent)) == plain.content


async def test_other_answers_are_compressed_too(client: AsyncClient, database: Database) -> None:
    await store(database, {named("up", host=f"host-{n}"): [] for n in range(100)})

    for path, parameters in (("/v1/series", {"match": "up"}), ("/v1/labels/host/values", {})):
        answer = await client.get(path, params=parameters, headers={"Accept-Encoding": "gzip"})

        assert answer.headers["content-encoding"] == "gzip"
        assert "host-99" in answer.text


async def test_metadata_of_more_metrics_than_one_may_ask_for_are_refused(
    database_url: str, database: Database
) -> None:
    async with database.writing() as connection:
        metadata = {f"metric_{n}": Metadata("gauge") for n in range(3)}
        await MetadataRepository(connection, DEFAULT_TENANT_ID).put(metadata)

    async with asking(database_url, read_max_series=2) as client:
        assert_too_broad(await client.get("/v1/metadata"), "more than 2 metrics", "`metric`")
        one = await client.get("/v1/metadata", params={"metric": "metric_1"})

    assert list(one.json()["metadata"]) == ["metric_1"]
