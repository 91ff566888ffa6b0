"""Kept for ever, one request may have a sample for every day there may be; not for any more."""

from time import monotonic

from commands import infrawatch
from conftest import execute
from httpx import AsyncClient
from pushing import now_ms, push, series
from serving_process import serving_process

DAY_MS = 24 * 3600 * 1000
DAYS = 729
PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'chunks'::regclass"


async def test_a_sample_for_every_day_makes_a_bounded_number_of_partitions(
    database_url: str,
) -> None:
    now = now_ms()
    samples = [[now - day * DAY_MS, 1.5] for day in range(1, DAYS + 1)]
    older = [[now - day * DAY_MS, 1.5] for day in range(731, 20_000)]
    async with (
        serving_process(database_url, RETENTION="forever") as server,
        AsyncClient(base_url=server.url, timeout=60) as client,
    ):
        assert (await push(client, series("daily", *samples))).status_code == 200
        refused = await push(client, series("daily", *older), partial="true")
        started = monotonic()
        ran = infrawatch("compact", url=database_url)
        took_s = monotonic() - started
        partitions = int(execute(database_url, PARTITIONS))
        span = {"match": "daily", "start": "-800d", "end": "now"}
        answer = await client.get("/v1/samples", params=span)

    print(f"\n{len(samples)} days in one request: {partitions} partitions, made in {took_s:.1f} s")
    assert ran.returncode == 0, ran.stderr
    assert refused.json()["rejected"] == len(older)
    assert "INFRAWATCH_MAX_PAST" in refused.text
    assert len(answer.json()["series"][0]["samples"]) == DAYS
    assert partitions <= 730 + 14
