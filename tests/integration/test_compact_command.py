"""`infrawatch compact`, beside a server that runs."""

import asyncio

from commands import infrawatch
from conftest import execute
from httpx import AsyncClient
from stored import named, store

from infrawatch.model.timerange import now_us
from infrawatch.store.database import Database

HALF_HOUR_US = 1_800_000_000


async def test_compacting_everything_while_a_server_runs_changes_no_answer(
    database: Database, database_url: str, client: AsyncClient
) -> None:
    start_us = now_us() // 1_000 * 1_000 - 299 * HALF_HOUR_US
    told = [(start_us + n * HALF_HOUR_US, float(n % 7)) for n in range(300)]
    await store(database, {named("m", host=host): told for host in "ab"})
    asked = {"match": "m", "start": "-7d"}
    before = (await client.get("/v1/samples", params=asked)).json()
    assert [len(one["samples"]) for one in before["series"]] == [300, 300]

    plain = await asyncio.to_thread(infrawatch, "compact", url=database_url)
    in_head = int(execute(database_url, "SELECT sum(samples) FROM chunks_head"))
    everything = await asyncio.to_thread(infrawatch, "compact", "--all", url=database_url)

    assert plain.returncode == everything.returncode == 0, plain.stderr + everything.stderr
    assert plain.stdout.startswith("600 samples compacted into ")
    assert 0 < in_head < 600  # of windows that are open
    assert f"{in_head} samples merged into " in everything.stdout
    assert " slots of the journal emptied." in everything.stdout
    left = "SELECT (SELECT count(*) FROM journal) + (SELECT count(*) FROM chunks_head)"
    assert execute(database_url, left) == "0"
    assert execute(database_url, "SELECT count(*) FROM samples") == "600"
    assert (await client.get("/v1/samples", params=asked)).json() == before
