"""Arbitrary queries of arbitrary data are answered or rejected, without a server error."""

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from httpx import AsyncClient
from stored import STALE, named, store

from infrawatch.model.timerange import from_us, now_us
from infrawatch.store.database import Database
from infrawatch.upkeep import compaction

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
NOW_US = now_us()

QUESTIONS = 400
"""From each seed."""

CLOSED, OPEN, LATELY = 3 * DAY_US, 5 * HOUR_US, HOUR_US // 4
"""How long ago began what is in chunks, in the head, and in the journal."""


async def fill(database: Database) -> None:
    """Series that are everywhere, only long ago, only now, or nothing but stale markers."""
    for ago_us in (CLOSED, OPEN, LATELY):
        times_us = range(NOW_US - ago_us, NOW_US - ago_us // 2, ago_us // 200)
        told = {
            named("everywhere", host=host): [(at, float(at % 7)) for at in times_us]
            for host in "abc"
        }
        told[named(f"only_{ago_us}", host="a")] = [(at, 1.0) for at in times_us]
        told[named("ended", host="b")] = [(at, STALE) for at in times_us]
        await store(database, told)
        if ago_us != LATELY:
            await compaction.compact_until(database, from_us(now_us()))
        if ago_us == CLOSED:
            await compaction.merge_until(database, compaction.EVERYTHING)


MATCHES = (
    *("everywhere", "unheard_of", "ended", f"only_{LATELY}", f"only_{CLOSED}", '{host="a"}'),
    *('{host=~".+"}', 'everywhere{host=""}', 'everywhere{unheard_of!=""}', '{host!~"a|b"}'),
)
QUERIES = (
    *MATCHES,
    *("rate(everywhere[5m])", "sum by (host) (everywhere)", "everywhere / on (host) ended"),
    *("max_over_time(rate(everywhere[10m])[2h:5m])", "topk(1, unheard_of)", "everywhere[5m]"),
    *("absent(unheard_of)", "unheard_of or everywhere", "unheard_of and everywhere", "time()"),
    *("histogram_quantile(0.9, everywhere)", "count_values('v', unheard_of)", "sort(unheard_of)"),
    *("quantile(0.5, unheard_of)", "everywhere offset 1d", "everywhere @ end()", "-unheard_of"),
    *("label_replace(unheard_of, 'x', '$1', 'host', '(.*)')", "scalar(unheard_of)", "1", "'a'"),
)
MIDNIGHTS = tuple(str(NOW_US // DAY_US * 86_400 - days * 86_400) for days in (0, 2, 20))
STARTS = (*MIDNIGHTS, "-5m", "-1h", "-7h", "-30d", "now", "0")
FUNCTIONS = (
    *("avg", "min", "max", "sum", "count", "first", "last"),
    *("stddev", "rate", "increase", "p50", "p99"),
)

PATHS: Mapping[str, tuple[str, ...]] = {
    "/v1/range": ("match", "start", "end", "step", "fn", "by", "across"),
    "/v1/samples": ("match", "start", "end"),
    "/v1/latest": ("match", "max_age"),
    "/v1/series": ("match", "limit"),
    "/v1/labels": ("match",),
    "/v1/labels/host/values": ("match", "limit"),
    "/v1/metadata": (),
    "/api/v1/query": ("query", "time"),
    "/api/v1/query_range": ("query", "start", "end", "step"),
    "/api/v1/series": ("match[]", "start", "end"),
    "/api/v1/labels": ("match[]", "start", "end"),
    "/api/v1/label/host/values": ("match[]", "start", "end"),
}
VALUES: Mapping[str, tuple[str | None, ...]] = {
    "match": MATCHES,
    "match[]": MATCHES,
    "query": QUERIES,
    "start": STARTS,
    "end": ("now", *MIDNIGHTS),
    "time": (None, *STARTS),
    "step": ("5m", "25m", "1h", "1h", "2h", "1d", "7d"),
    "fn": FUNCTIONS,
    "by": (None, "host", "unheard_of", "host,__name__"),
    "across": (None, "sum", "avg", "count"),
    "max_age": (None, "all", "5m"),
    "limit": (None, "1", "1000"),
}


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_query_is_an_internal_error(
    database: Database, client: AsyncClient, seed: int
) -> None:
    await fill(database)
    chance = random.Random(seed)
    answered: Counter[str] = Counter()
    for _ in range(QUESTIONS):
        path = chance.choice([*PATHS, "/v1/range", "/v1/range", "/api/v1/query_range"])
        chosen = {name: chance.choice(VALUES[name]) for name in PATHS[path]}
        parameters = {name: value for name, value in chosen.items() if value is not None}
        answer = await client.get(path, params=parameters)
        assert answer.status_code < 500, (answer.url, answer.text)
        answered[path] += answer.is_success
    assert answered.keys() == PATHS.keys()
    assert min(answered.values()) > 0, answered
