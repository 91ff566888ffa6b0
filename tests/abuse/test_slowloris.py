"""Half-open connections with the default deadlines, and what a healthy sender notices of them."""

import asyncio
from time import monotonic

import psutil
from httpx import AsyncClient
from serving_process import serving_process
from slow_connections import half_open, push_during

CONNECTIONS = 500
WITHIN_S = 20


async def test_half_open_connections_are_closed_in_time(database_url: str) -> None:
    async with (
        serving_process(database_url) as server,
        AsyncClient(base_url=server.url, timeout=60) as client,
    ):
        process = psutil.Process(server.process.pid)
        _, alone = await push_during(client, asyncio.sleep(10))
        before, started = sum(process.cpu_times()[:2]), monotonic()
        async with half_open(server.url, CONNECTIONS) as opened:
            answers = asyncio.gather(*(one.rest() for one in opened))
            _, beside = await push_during(client, answers)
            took_s = monotonic() - started
        cpu_s = sum(process.cpu_times()[:2]) - before

    p99_alone, p99_beside = (took[int(0.99 * len(took))] for took in (alone, beside))
    print(
        f"\n{CONNECTIONS} half-open connections were closed within {took_s:.1f} s; a healthy "
        f"sender's p99 {1000 * p99_alone:.1f} ms alone ({len(alone)} batches), "
        f"{1000 * p99_beside:.1f} ms beside them ({len(beside)}), {cpu_s:.1f} s of CPU"
    )
    assert took_s < WITHIN_S
