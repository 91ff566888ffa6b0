"""Plain SQL sees what the API answers, and finds it without reading everything."""

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import execute
from httpx import AsyncClient
from query_plans import nodes
from stored import named, store

from infrawatch.model.samples import Columns
from infrawatch.model.timerange import now_us
from infrawatch.store.database import Database
from infrawatch.store.journal import JournalRepository
from infrawatch.store.writers import WriterRepository

SECOND = 1_000_000
START = 1_790_000_000

COLUMNS = "metric, labels, series_id, (extract(epoch FROM at) * 1000000)::bigint, value"
ORDER = "ORDER BY series_id, at"

Row = tuple[str, dict[str, str], str, int, str]

# Enough rows for the planner to prefer an index by its own judgement: 20,000 series of 200 hosts,
# and a journal in which each shard has 180 groups of ten series.
MANY_SERIES = """
INSERT INTO series (id, shard, tenant_id, metric, labels, fingerprint)
SELECT (n << 6) | (n % 64), n % 64, 1, 'metric_' || n % 100,
    jsonb_build_object('host', 'h' || n / 100, 'place', 'p' || n), gen_random_uuid()
FROM generate_series(1024, 21023) AS n
"""


def rows(database_url: str, source: str) -> list[Row]:
    """What psql prints of a view or function, as (metric, labels, id, µs, value)."""
    query = f"COPY (SELECT {COLUMNS} FROM {source} {ORDER}) TO STDOUT WITH (FORMAT csv)"
    lines = csv.reader(io.StringIO(execute(database_url, query)))
    return [(metric, json.loads(labels), sid, int(at), v) for metric, labels, sid, at, v in lines]


async def answered(client: AsyncClient, match: str, start: str, end: str) -> list[Row]:
    answer = await client.get(
        "/v1/samples", params={"match": match, "start": start, "end": end, "precision": "us"}
    )
    assert answer.status_code == 200, answer.text
    return [
        (one["metric"], one["labels"], one["id"], time, in_sql(value))
        for one in answer.json()["series"]
        for time, value in one["samples"]
    ]


def in_sql(value: float | str) -> str:
    """A value as PostgreSQL writes it."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return {"NaN": "NaN", "+Inf": "Infinity", "-Inf": "-Infinity"}[value]


@pytest.fixture
async def samples(database: Database) -> None:
    """Two series that several writers corrected, and one with the values JSON cannot hold."""
    a, b = named("up", host="a"), named("up", host="b", quoted='"x"')
    for writer in range(5):
        told = [((START + n) * SECOND, writer + n / 4) for n in range(writer, 10)]
        await store(database, {a: told[::-1], b: [*told, told[0]]})
    told = [(START * SECOND + n, float(text)) for n, text in enumerate(("nan", "inf", "-inf"))]
    await store(database, {named("odd"): told})


@pytest.mark.usefixtures("samples")
async def test_the_view_holds_what_the_api_answers(client: AsyncClient, database_url: str) -> None:
    expected = await answered(client, '{__name__=~".+"}', "0", str(START + 60))

    assert len(expected) == 23
    assert rows(database_url, "samples") == expected


@pytest.mark.usefixtures("samples")
async def test_samples_between_holds_what_the_api_answers_of_a_span(
    client: AsyncClient, database_url: str
) -> None:
    for first, end in ((0, 10), (2, 5), (3, 3), (9, 60), (-60, 0), (-60, 1)):
        span = (str(START + first), str(START + end))
        expected = await answered(client, '{__name__=~".+"}', *span)

        source = f"samples_between(to_timestamp({span[0]}), to_timestamp({span[1]}))"
        assert rows(database_url, source) == expected
        assert bool(expected) == (first < end and end > 0)


@pytest.mark.usefixtures("samples")
async def test_conditions_on_names_select_what_a_selector_does(
    client: AsyncClient, database_url: str
) -> None:
    for match, condition in {
        "up": "metric = 'up'",
        '{host="b"}': """labels @> '{"host": "b"}'""",
        'up{host!="b"}': "metric = 'up' AND labels ->> 'host' <> 'b'",
    }.items():
        expected = await answered(client, match, "0", str(START + 60))

        assert expected
        assert rows(database_url, f"samples WHERE {condition}") == expected


@pytest.mark.usefixtures("samples")
def test_samples_join_with_a_table_of_the_users_own(database_url: str) -> None:
    execute(database_url, "CREATE TABLE machines (host text PRIMARY KEY, team text)")
    execute(database_url, "INSERT INTO machines VALUES ('a', 'web'), ('b', 'batch'), ('c', 'web')")

    found = execute(
        database_url,
        """
        SELECT m.team, count(*), max(s.value)
        FROM samples_between(to_timestamp(1790000000), to_timestamp(1790000010)) s
        JOIN machines m ON m.host = s.labels ->> 'host'
        WHERE s.metric = 'up' GROUP BY m.team ORDER BY m.team
        """,
    )

    assert found == "batch|10|6.25\nweb|10|6.25"


@pytest.fixture
async def many_series(database: Database, database_url: str) -> str:
    execute(database_url, MANY_SERIES)
    numbers = np.arange(1024, 1664)
    series_ids, values = (numbers << 6) | (numbers % 64), numbers.astype(np.float64)
    async with database.writing() as connection:
        writer = (await WriterRepository(connection).register()).writer
        for second in range(180):
            columns = Columns(series_ids, np.full(640, (START + second) * SECOND), values)
            await JournalRepository(connection).append(writer, second + 1, columns)
    execute(database_url, "ANALYZE series, journal, shards")
    return database_url


def explained(database_url: str, source: str) -> list[Mapping[str, Any]]:
    query = f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM {source}"
    [explanation] = json.loads(execute(database_url, query))
    return list(nodes(explanation["Plan"]))


BETWEEN = f"samples_between(to_timestamp({START + 60}), to_timestamp({START + 90}))"


@pytest.mark.parametrize("source", ["samples", BETWEEN])
@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("metric = 'metric_7'", "series_metric"),
        ("""labels @> '{"host": "h12"}'""", "series_labels"),
    ],
)
def test_a_condition_on_names_reaches_the_indexes(
    many_series: str, source: str, condition: str, index: str
) -> None:
    plan = explained(many_series, f"{source} WHERE {condition}")

    indexes = {node.get("Index Name", "") for node in plan}
    assert index in indexes
    read_whole = {
        node["Relation Name"]
        for node in plan
        if node["Node Type"] == "Seq Scan" and node["Actual Rows"] * node["Actual Loops"]
    }
    assert read_whole <= {"shards"}  # 64 rows
    assert any(name.endswith("shard_arrived_at_idx") for name in indexes)
    assert plan[0]["Actual Rows"] > 0


def test_reading_one_series_reads_only_its_shard(many_series: str) -> None:
    found = explained(many_series, """samples WHERE labels @> '{"place": "p1207"}'""")

    assert found[0]["Actual Rows"] == 180
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in found)
    assert read < 10_000  # of 115,200 samples


async def test_the_queries_in_the_documentation_have_answers(
    database: Database, database_url: str
) -> None:
    hour_s = now_us() // SECOND // 3_600 * 3_600 - 1_800
    samples = [((hour_s + second) * SECOND, float(second)) for second in (0, 300)]
    week_ago = [((hour_s + second - 7 * 86_400) * SECOND, 2.5) for second in (0, 300)]
    names = {
        named("node_network_transmit_bytes_total", instance="web-1"): samples,
        named("node_load1", instance="web-1"): [*week_ago, *samples],
    }
    await store(database, names)
    page = Path(__file__).parents[2] / "README.md"
    [queries] = re.findall(r"^```sql\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    talkers, weeks = queries.rstrip().removesuffix(";").split(";\n")
    assert execute(database_url, talkers) == "web-1|0.08333333333333333"
    assert execute(database_url, weeks).endswith("|150|2.5")
