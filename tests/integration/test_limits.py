"""Limits: how much a tenant or a key may do, and what they hear who do more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from keys import TESTS, a_key, bearing
from limiting import distinct, limited
from pushing import find_count, now_ms, push, series
from viewing import viewing
from websockets.exceptions import InvalidStatus

from infrawatch.access.keys.credentials import ApiKey
from infrawatch.access.principal import DEFAULT_TENANT_ID, SCOPES
from infrawatch.access.tenants import create_tenant
from infrawatch.embedded.valkey import valkey_running
from infrawatch.store.accounts.limits import Holder, Limits
from infrawatch.store.database import Database

REFUSED_METADATA = "infrawatch_metadata_refused_total"


@pytest.fixture
async def key(database_url: str) -> str:
    return await a_key(database_url, *SCOPES)


async def test_too_many_requests_are_answered_with_retry_after(database_url: str, key: str) -> None:
    async with limited(database_url, key, Limits(requests_per_s=1)) as client:
        answers = [await client.get("/v1/labels") for _ in range(40)]

    # The window slides, so one may be let in again between those that are refused.
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers[:10]} == {200}
    assert len(refused) > 1
    assert answers[0].headers["ratelimit-policy"] == '"tenant-requests";q=10;w=10'
    assert answers[0].headers["ratelimit"].startswith('"tenant-requests";r=9;t=')
    assert refused[-1].json()["code"] == "limit_exceeded"
    assert 1 <= int(refused[-1].headers["retry-after"]) <= 10


async def test_signing_in_counts_as_a_request(database_url: str, key: str) -> None:
    own = {"X-Requested-With": "tests"}
    async with limited(database_url, key, Limits(requests_per_s=0.001)) as client:
        answers = [await client.post("/v1/session", json={}, headers=own) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 429, 429]
    assert execute(database_url, "SELECT count(*) FROM sessions") == "1"


async def test_too_many_samples_are_answered_with_retry_after(database_url: str, key: str) -> None:
    now = now_ms()
    many = series("up", *([now - n, n] for n in range(60)))
    async with limited(database_url, key, Limits(samples_per_s=10)) as client:
        first, second = await push(client, many), await push(client, many)
        huge = await push(client, series("up", *([now - n, n] for n in range(101))))

    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["ratelimit"].startswith('"tenant-samples";r=40;t=')
    assert "10 samples a second for this tenant" in second.json()["detail"]
    assert huge.status_code == 413
    assert "at most 100 at once" in huge.json()["detail"]


async def test_even_the_lowest_limit_is_answered_with_retry_after(
    database_url: str, key: str
) -> None:
    async with limited(database_url, key, Limits(requests_per_s=5e-324)) as client:
        answers = [await client.get("/v1/labels") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_limit_of_a_key_applies_to_that_key_only(database_url: str, key: str) -> None:
    parsed = ApiKey.find(key)
    assert parsed is not None
    other = await a_key(database_url, "read")
    holder = Holder(DEFAULT_TENANT_ID, parsed.id)
    async with limited(database_url, key, Limits(requests_per_s=0.1), holder) as client:
        answers = [await client.get("/v1/labels") for _ in range(3)]
        assert answers[0].status_code == 200
        assert 429 in {answer.status_code for answer in answers}

        unlimited = await client.get("/v1/labels", headers=bearing(other))

        assert unlimited.status_code == 200
        assert "ratelimit" not in unlimited.headers


async def test_as_many_metrics_have_metadata_as_series_may_be_active(
    database_url: str, key: str
) -> None:
    """What has metadata is updated on, and samples are stored with and without it."""

    def described(metrics: str, unit: str) -> list[object]:
        return [series(metric, unit=unit, type="gauge") for metric in metrics]

    async with limited(database_url, key, Limits(active_series=4)) as client:

        async def units() -> dict[str, str]:
            found = (await client.get("/v1/metadata")).json()["metadata"]
            return {metric: one["unit"] for metric, one in found.items()}

        assert (await push(client, *described("bd", "B"))).status_code == 200
        assert await find_count(client, REFUSED_METADATA) == 0
        await push(client, *described("abcdef", "s"), partial="true")
        assert await units() == dict.fromkeys("abcd", "s")
        assert await find_count(client, REFUSED_METADATA) == 2
        answer = await push(client, *described("dcba", "m"))
        assert (answer.status_code, answer.json()["accepted"]) == (200, 4)
        assert await units() == dict.fromkeys("abcd", "m")


async def test_the_data_that_one_query_may_read_is_limited(database_url: str, key: str) -> None:
    limits = Limits(query_series=2, query_samples=5)
    async with limited(database_url, key, limits) as client:
        await push(client, *distinct("path", 0, 3))
        await push(client, series("long", *([now_ms() - n, n] for n in range(6))))

        series_answer = await client.get("/v1/samples", params={"match": "requests"})
        samples_answer = await client.get("/v1/samples", params={"match": "long"})

        for answer in (series_answer, samples_answer):
            assert answer.status_code == 422
            assert answer.json()["code"] == "query_too_broad"
        assert "more than 2 series" in series_answer.json()["detail"]


async def test_the_number_of_live_connections_is_limited(database_url: str, key: str) -> None:
    async with limited(database_url, key, Limits(live_connections=1)) as client:
        url, headers = str(client.base_url), bearing(key)
        async with viewing(url, additional_headers=headers):
            with pytest.raises(InvalidStatus) as refused:
                async with viewing(url, additional_headers=headers):
                    pass
            by_sse = await client.get("/v1/live/sse", params={"match": "up"})
        assert refused.value.response.status_code == 429
        assert by_sse.status_code == 429
        assert "may have 1 live connections" in by_sse.json()["detail"]

        async with viewing(url, additional_headers=headers) as viewer:  # there is room again
            await viewer.subscribe("up")


async def test_servers_count_live_connections_together_in_redis(
    database_url: str, key: str, temporary_root: Path
) -> None:
    limits, headers = Limits(live_connections=2), bearing(key)
    async with (
        valkey_running(temporary_root / "viewers-redis") as redis_url,
        limited(database_url, key, limits, redis_url=redis_url) as one,
        limited(database_url, key, limits, redis_url=redis_url) as other,
    ):
        urls = str(one.base_url), str(other.base_url)
        async with (
            viewing(urls[0], additional_headers=headers),
            viewing(urls[1], additional_headers=headers),
        ):
            for url in urls:
                with pytest.raises(InvalidStatus):
                    async with viewing(url, additional_headers=headers):
                        pass
        async with asyncio.timeout(30):  # the server hears of it a moment later
            await until_admitted(urls[0], headers)


async def until_admitted(url: str, headers: dict[str, str]) -> None:
    while True:
        with suppress(InvalidStatus):
            async with viewing(url, additional_headers=headers):
                return
        await asyncio.sleep(0.05)


async def test_servers_count_together_in_redis_and_apart_without_it(
    database_url: str, key: str, temporary_root: Path
) -> None:
    limits = Limits(requests_per_s=1)

    async def count_admitted(redis_url: str) -> int:
        async with (
            limited(database_url, key, limits, redis_url=redis_url) as one,
            limited(database_url, key, limits, redis_url=redis_url) as other,
        ):
            servers = [one, other] * 10
            answers = [await server.get("/v1/labels") for server in servers]
        return [answer.status_code for answer in answers].count(200)

    async with valkey_running(temporary_root / "limits-redis") as redis_url:
        assert 10 <= await count_admitted(redis_url) < 16
    assert await count_admitted("redis://127.0.0.1:1") == 20


@pytest.fixture
async def operator(database_url: str, key: str) -> AsyncIterator[AsyncClient]:
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30, headers=bearing(key)) as client,
    ):
        yield client


async def test_limits_are_data_that_count_without_a_restart(operator: AsyncClient) -> None:
    wanted = {"requests_per_s": 0.1, "active_series": 7}
    assert (await operator.put("/v1/limits", json=wanted)).status_code == 204

    async with asyncio.timeout(30):
        while (await operator.get("/v1/labels")).status_code != 429:
            pass


async def test_changes_to_limits_are_recorded_with_their_author(operator: AsyncClient) -> None:
    wanted = {"samples_per_s": 5000.0, "query_series": 10}
    assert (await operator.put("/v1/limits", json=wanted)).status_code == 204

    [held] = (await operator.get("/v1/limits")).json()["limits"]
    [entry] = (await operator.get("/v1/audit", params={"limit": 1})).json()["entries"]

    assert {name: held[name] for name in wanted} == wanted
    assert (held["tenant"], held["key_id"], held["active_series"]) == ("default", None, None)
    assert (entry["action"], entry["detail"]) == ("limits.set", wanted)
    assert (await operator.delete("/v1/limits")).status_code == 204
    assert (await operator.delete("/v1/limits")).status_code == 404
    assert (await operator.get("/v1/limits")).json() == {"limits": []}


async def test_administrators_of_a_tenant_limit_their_own_keys_alone(
    database_url: str, operator: AsyncClient
) -> None:
    async with Database.open(database_url) as database:
        shop = await create_tenant(database, "shop", TESTS)
    theirs = bearing(await a_key(database_url, *SCOPES, tenant_id=shop.id))
    own = ApiKey.find(await a_key(database_url, "write", tenant_id=shop.id))
    foreign = ApiKey.find(operator.headers["authorization"].removeprefix("Bearer "))
    assert own is not None
    assert foreign is not None

    async def put(**limits: object) -> int:
        answer = await operator.put("/v1/limits", json=limits, headers=theirs)
        return answer.status_code

    assert await put(samples_per_s=1.0) == 403
    assert await put(tenant="shop", samples_per_s=1.0) == 403
    assert await put(key_id=foreign.id, samples_per_s=1.0) == 404
    assert await put(key_id=own.id, samples_per_s=1.0) == 204
    assert len((await operator.get("/v1/limits", headers=theirs)).json()["limits"]) == 1
    assert (await operator.put("/v1/limits", json={"tenant": "nobody"})).status_code == 404
