"""Batches as senders write them, and what became of them in the database."""

import json
from collections.abc import Sequence
from time import time_ns
from typing import Any

from httpx import AsyncClient, Response
from sqlalchemy import text

from infrawatch.store.database import Database

Batch = dict[str, Any]

_STORED = text("""
SELECT labels, (extract(epoch FROM at) * 1000000)::bigint, value FROM samples
WHERE metric = :metric ORDER BY labels ->> 'host', at
""")


def now_ms() -> int:
    return time_ns() // 1_000_000


def series(metric: str, *samples: Sequence[object], **more: object) -> Batch:
    """One series, in the order most encoders write; without samples it has one of this moment."""
    head = {"metric": metric, "labels": {"host": "a"}, **more}
    return {**head, "samples": samples or [[now_ms(), 1.5]]}


def batch(*all_series: object) -> Batch:
    return {"series": list(all_series)}


async def push(client: AsyncClient, *all_series: object, **parameters: str) -> Response:
    return await client.post("/v1/samples", json=batch(*all_series), params=parameters)


async def push_lines(client: AsyncClient, *lines: object, **parameters: str) -> Response:
    """Send objects as NDJSON; text goes as it is."""
    body = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    headers = {"content-type": "application/x-ndjson"}
    return await client.post("/v1/samples", content=body, headers=headers, params=parameters)


async def find_stored(database: Database, metric: str) -> list[tuple[dict[str, str], int, float]]:
    """Labels, time in µs and value of a metric's samples, as everybody with SQL sees them."""
    async with database.reading() as connection:
        rows = await connection.execute(_STORED, {"metric": metric})
        return [(labels, at_us, value) for labels, at_us, value in rows]


async def find_values(database: Database, metric: str) -> dict[int, float]:
    """Values by time in µs of a metric that has one series."""
    return {at_us: value for _, at_us, value in await find_stored(database, metric)}


async def find_count(client: AsyncClient, name: str) -> float:
    """The value of one of a server's own metrics; `name` includes its labels, if any."""
    lines = (await client.get("/metrics")).text.splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))
