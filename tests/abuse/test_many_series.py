"""A million distinct series against a limit of ten thousand: what it costs, and who notices."""

import asyncio
from collections.abc import Iterator, Sequence

import psutil
import pytest
from httpx import AsyncClient
from keys import TESTS, a_key, bearing
from pushing import now_ms
from serving_process import serving_process
from slow_connections import push_during

from infrawatch.access.limits.changes import put_limits
from infrawatch.access.principal import DEFAULT_TENANT_ID, SCOPES
from infrawatch.access.tenants import create_tenant
from infrawatch.store.accounts.limits import Holder, Limits
from infrawatch.store.database import Database

SERIES = 1_000_000
AT_ONCE = 10_000
LIMIT = 10_000
MEMORY_BYTES = 100 * 1024**2


def lines() -> Iterator[bytes]:
    """Bodies of distinct series, all of them together a million."""
    for start in range(0, SERIES, AT_ONCE):
        numbers = range(start, start + AT_ONCE)
        yield b"".join(b"flood,n=%d v=1 %d000000\n" % (number, now_ms()) for number in numbers)


async def flood(client: AsyncClient, bodies: Sequence[bytes]) -> dict[int, int]:
    """Send all of them; how often which status was answered."""
    statuses: dict[int, int] = {}
    for body in bodies:
        answer = await client.post("/write", content=body)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    return statuses


@pytest.mark.timeout(900)
async def test_a_million_series_against_a_limit_of_ten_thousand(database_url: str) -> None:
    async with Database.open(database_url) as database:
        holder = Holder(DEFAULT_TENANT_ID)
        await put_limits(database, holder, Limits(active_series=LIMIT), TESTS)
        other = await create_tenant(database, "other", TESTS)
    flooding = await a_key(database_url, *SCOPES)
    healthy = await a_key(database_url, *SCOPES, tenant_id=other.id)
    async with (
        serving_process(database_url, AUTH="required") as server,
        AsyncClient(base_url=server.url, timeout=120, headers=bearing(flooding)) as attacker,
        AsyncClient(base_url=server.url, timeout=120, headers=bearing(healthy)) as client,
    ):
        bodies = list(lines())  # who makes them meanwhile keeps the other waiting, too
        process = psutil.Process(server.process.pid)
        _, alone = await push_during(client, asyncio.sleep(10))
        rss, cpu_s = process.memory_info().rss, sum(process.cpu_times()[:2])
        statuses, beside = await push_during(client, flood(attacker, bodies))
        more_bytes = process.memory_info().rss - rss
        cpu_s = sum(process.cpu_times()[:2]) - cpu_s
        labels = (await attacker.get("/v1/labels", params={"match": "flood_v"})).json()["labels"]

    p50s = (1000 * took[len(took) // 2] for took in (alone, beside))
    p99s = (1000 * took[int(0.99 * len(took))] for took in (alone, beside))
    print(
        f"\n{SERIES:,} series, limit {LIMIT:,}: {statuses}, {more_bytes / 2**20:+.0f} MiB, "
        f"{cpu_s:.0f} s of CPU; another tenant's p50 and p99 alone and beside it: "
        f"{'/'.join(f'{one:.0f}' for one in p50s)} ms, {'/'.join(f'{one:.0f}' for one in p99s)} ms"
    )
    assert statuses.keys() <= {204, 400}
    assert statuses[400] >= SERIES // AT_ONCE - 2
    assert [one["series"] for one in labels if one["name"] == "n"] == [LIMIT]
    assert more_bytes < MEMORY_BYTES
