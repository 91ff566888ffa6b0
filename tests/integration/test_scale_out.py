"""nginx before two servers, one PostgreSQL and one Redis: as one, and when servers are killed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx import AsyncClient
from keys import a_key, bearing
from nginx import ABSENT, NGINX, nginx_before
from pushing import find_count, now_ms, series
from serving_process import ServingProcess, serving_process
from viewing import viewing
from websockets.exceptions import ConnectionClosed

from infrawatch.embedded.valkey import valkey_running

BATCHES = 20
SUBSCRIPTIONS = "infrawatch_live_subscriptions"
ACCEPTED = 'infrawatch_samples_accepted_total{format="native"}'


@dataclass(frozen=True, slots=True)
class Service:
    url: str
    servers: list[ServingProcess]
    key: dict[str, str]
    client: AsyncClient

    async def push(self, time_ms: int, value: float) -> str:
        batch = {"series": [series("m", [time_ms, value])]}
        answer = await self.client.post("/v1/samples", json=batch)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["cursor"])

    async def figure(self, server: ServingProcess, name: str) -> float:
        async with AsyncClient(base_url=server.url, headers=self.key, timeout=30) as client:
            return await find_count(client, name)


@pytest.fixture
async def service(
    database_url: str, temporary_root: Path, tmp_path: Path
) -> AsyncGenerator[Service, None]:
    key = bearing(await a_key(database_url, "admin", "read", "write"))
    async with (
        valkey_running(temporary_root / tmp_path.name) as redis_url,
        _server(database_url, redis_url) as one,
        _server(database_url, redis_url) as other,
        nginx_before([one.url, other.url], tmp_path) as url,
        AsyncClient(base_url=url, headers=key, timeout=30) as client,
    ):
        yield Service(url, [one, other], key, client)


@asynccontextmanager
async def _server(database_url: str, redis_url: str) -> AsyncGenerator[ServingProcess, None]:
    variables = {"REDIS_URL": redis_url, "AUTH": "required", "TRUSTED_PROXIES": "127.0.0.1/32"}
    async with serving_process(database_url, **variables) as server:
        yield server


@pytest.mark.skipif(NGINX is None, reason=ABSENT)
async def test_two_servers_behave_as_one_until_the_last_is_killed(service: Service) -> None:
    start = now_ms() - 1_000
    await _what_one_has_taken_both_answer(service, start)
    await _an_id_comes_through(service)
    await _a_stream_comes_through_at_once(service)
    await _a_viewer_loses_its_server_and_goes_on_where_it_was(service, start)
    await _when_no_server_is_left_senders_are_told_to_come_back(service)


async def _what_one_has_taken_both_answer(service: Service, start: int) -> None:
    for number in range(BATCHES):
        cursor = await service.push(start + number, number)
        for _ in service.servers:  # nginx takes turns
            question = {"match": "m", "wait_for": cursor}
            latest = (await service.client.get("/v1/latest", params=question)).json()
            assert latest["series"][0]["value"] == number
    shares = [await service.figure(server, ACCEPTED) for server in service.servers]
    assert min(shares) > 0
    assert sum(shares) == BATCHES


async def _an_id_comes_through(service: Service) -> None:
    theirs = await service.client.get("/v1/nothing", headers={"X-Request-Id": "theirs"})
    nginxs = await service.client.get("/v1/nothing")
    assert (theirs.status_code, theirs.json()["request_id"]) == (404, "theirs")
    assert len(nginxs.json()["request_id"]) == 32


async def _a_stream_comes_through_at_once(service: Service) -> None:
    parameters = {"match": "streamed"}
    async with service.client.stream("GET", "/v1/live/sse", params=parameters) as answer:
        lines = answer.aiter_lines()
        async for line in lines:
            if "snapshot" in line:
                break
        batch = {"series": [series("streamed")]}
        await service.client.post("/v1/samples", json=batch)
        async for line in lines:
            if "update" in line:
                break


async def _a_viewer_loses_its_server_and_goes_on_where_it_was(service: Service, start: int) -> None:
    async with viewing(service.url, additional_headers=service.key) as viewer:
        picture = await viewer.subscribe("m", since="-1m")
        for number in range(BATCHES, 2 * BATCHES):
            await service.push(start + number, number)
        await viewer.until_there_are(picture, 2 * BATCHES)
        await _kill_the_server_of_a_viewer(service)
        for number in range(2 * BATCHES, 3 * BATCHES):
            await service.push(start + number, number)
        with pytest.raises(ConnectionClosed):
            await viewer.until_there_are(picture, 3 * BATCHES)

    async with viewing(service.url, additional_headers=service.key) as viewer:
        resumed = await viewer.subscribe("m", resume=picture.cursor)
        await viewer.until_there_are(resumed, 3 * BATCHES - len(picture.samples))
        assert (resumed.snapshots, resumed.gaps) == (0, [])
        assert not resumed.samples.keys() & picture.samples.keys()
        values = [*picture.samples.values(), *resumed.samples.values()]
        assert sorted(value for value in values if isinstance(value, int | float)) == [
            *range(3 * BATCHES)
        ]


async def _kill_the_server_of_a_viewer(service: Service) -> None:
    async with asyncio.timeout(20):
        while True:
            viewed = [one for one in service.servers if await service.figure(one, SUBSCRIPTIONS)]
            if len(viewed) == 1:  # until then, another viewer's leaving has not been noticed
                break
    viewed[0].process.kill()
    await viewed[0].process.wait()


async def _when_no_server_is_left_senders_are_told_to_come_back(service: Service) -> None:
    for server in service.servers:
        if server.process.returncode is None:
            server.process.kill()
            await server.process.wait()
    answer = await service.client.post("/v1/samples", json={"series": [series("m")]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"
