"""Selectors mean the same in SQL, in RE2 and in Prometheus' own words."""

import re
from collections.abc import Mapping

import pytest
from conftest import execute
from httpx import AsyncClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from stored import named, store

from infrawatch.errors import InvalidSelector
from infrawatch.model.labels import SeriesName, to_labels
from infrawatch.model.selector import METRIC_LABEL, Matcher, Operator, Selector, parse_selector
from infrawatch.store.database import Database
from infrawatch.store.selection.catalog import SeriesCatalog
from infrawatch.store.series import SeriesRepository

TEXTS = ("", "a", "b", "ab", "A", "a.b", "a|b", "é", "a\nb", 'say "a"', "back\\slash", "100%", ":x")
PATTERNS = (
    *("", "a", "a|b", "|a", "a|", "a||b", "ab|é|A", ":x|:y", "100%", ' |"', "'"),
    *(".*", ".+", "a.*", ".*b", "a.b", r"a\.b", r"a\|b", "(a|b)+", "[ab]{2}", "(?i)A|é", "^a$"),
)
LABELS = ("x", "y", "service.name")

SERIES = [
    SeriesName.of(metric, {"x": x, "y": y, "service.name": y[:1]})
    for metric in ("up", "up.time", "é")
    for x in TEXTS
    for y in ("", "a", "a|b", "é")
]

_LOOKED_AT = text("""
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'series'
""")

matchers = st.one_of(
    st.builds(
        Matcher,
        st.sampled_from((*LABELS, METRIC_LABEL)),
        st.sampled_from((Operator.EQUAL, Operator.NOT_EQUAL)),
        st.sampled_from((*TEXTS, "up", "up.time")),
    ),
    st.builds(
        Matcher,
        st.sampled_from((*LABELS, METRIC_LABEL)),
        st.sampled_from((Operator.MATCHES, Operator.MATCHES_NOT)),
        st.sampled_from((*PATTERNS, "up", "up|é", "up.+")),
    ),
)
selectors = st.lists(matchers, max_size=4).map(lambda found: Selector(tuple(sorted(set(found)))))


def means(matcher: Matcher, labels: Mapping[str, str]) -> bool:
    """Prometheus' documented matchers, as straightforward Python."""
    value = labels.get(matcher.label, "")
    is_positive = matcher.operator in (Operator.EQUAL, Operator.MATCHES)
    if matcher.operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return (value == matcher.value) is is_positive
    return bool(re.fullmatch(matcher.value, value, re.DOTALL)) is is_positive


def expected(selector: Selector) -> list[SeriesName]:
    return [
        one
        for one in SERIES
        if all(means(m, {METRIC_LABEL: one.metric, **dict(one.labels)}) for m in selector.matchers)
    ]


def to_text(selector: Selector) -> str:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'

    return "{" + ",".join(f"{quoted(a)}{op}{quoted(b)}" for a, op, b in selector.matchers) + "}"


@given(selector=selectors)
@example(selector=Selector((Matcher("x", Operator.MATCHES, "a|b"),)))
@example(selector=Selector((Matcher("x", Operator.NOT_EQUAL, ""),)))
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_postgresql_selects_exactly_what_the_selector_accepts(
    database: Database, selector: Selector
) -> None:
    async with database.reading() as connection:
        known = await SeriesRepository(connection, 1).select(Selector(()), limit=10_000)
    if not known:  # the first example finds the database empty
        await store(database, {name: [] for name in SERIES})

    async with database.reading() as connection:
        found = await SeriesRepository(connection, 1).select(selector, limit=10_000)

        repository = SeriesRepository(connection, 1)
        for place in (0, len(found) // 2):
            after = found[place].id if found else 0
            page = await repository.page(selector, limit=20, after=after)
            assert page == [one for one in found if one.id > after][:20]

    names = [SeriesName(one.metric, to_labels(one.labels)) for one in found]
    assert [one.id for one in found] == sorted(one.id for one in found)
    assert sorted(names) == sorted(expected(selector))
    assert sorted(names) == sorted(
        one for one in SERIES if selector.accepts(one.metric, dict(one.labels))
    )


@given(selector=selectors)
def test_a_selector_is_read_as_it_was_written(selector: Selector) -> None:
    is_never_empty = any(not means(matcher, {}) for matcher in selector.matchers)
    if is_never_empty:
        assert parse_selector(to_text(selector)) == selector


@pytest.mark.parametrize(
    ("match", "count"),
    [
        ('{host="h7"}', 10),
        ('{host=~"h7|h8"}', 20),
        ('m3{env="production",host!="h7"}', 299),
        ('{host="h7",env=~".*"}', 10),
        ('{host="h7",env!="test"}', 10),
    ],
)
async def test_a_selector_looks_at_few_other_series(
    database: Database, match: str, count: int
) -> None:
    every = [named(f"m{n % 10}", host=f"h{n // 10}", env="production") for n in range(3_000)]
    await store(database, {name: [] for name in every})
    async with database.writing() as connection:
        await connection.execute(text("SELECT gin_clean_pending_list('series_labels')"))
        await connection.execute(text("ANALYZE series"))

    async with database.reading() as connection:
        found = await SeriesRepository(connection, 1).select(parse_selector(match), limit=1_000)
        looked_at = (await connection.execute(_LOOKED_AT)).scalar_one()

    assert len(found) == count
    assert count <= looked_at <= 300 + count  # what is meant once more, for its name


@pytest.mark.parametrize(
    ("match", "most"),
    [
        ('{env="production"}', 300),
        ('{env=~"prod.+"}', 300),
        ('m3{env="production"}', 600),
        ('{host="h299"}', 600),
    ],
)
async def test_a_page_looks_at_little_more_than_a_page(
    database: Database, match: str, most: int
) -> None:
    every = [named(f"m{n % 10}", host=f"h{n // 10}", env="production") for n in range(3_000)]
    await store(database, {name: [] for name in every})
    selector = parse_selector(match)
    async with database.writing() as connection:
        await connection.execute(text("SELECT gin_clean_pending_list('series_labels')"))
        await connection.execute(text("ANALYZE series"))
        expected = await SeriesRepository(connection, 1).select(selector, limit=3_000)

    async with database.reading() as connection:
        page = await SeriesRepository(connection, 1).page(selector, limit=100, after=64)
        looked_at = (await connection.execute(_LOOKED_AT)).scalar_one()

    assert page == [one for one in expected if one.id > 64][:100]
    assert looked_at <= most


async def test_a_page_holds_nobody_elses_series(database: Database, database_url: str) -> None:
    execute(database_url, "INSERT INTO tenants (id, name) VALUES (7, 'theirs')")
    for first in range(0, 2_400, 300):
        names = [named("up", n=str(n)) for n in range(first, first + 200)]
        await store(database, {name: [] for name in names[:100]})
        await store(database, {name: [] for name in names}, tenant_id=7)

    async with database.reading() as connection:
        repository = SeriesRepository(connection, 1)
        page = await repository.page(Selector(()), limit=1_000, after=0)
        assert page == await repository.select(Selector(()), limit=1_000)

    assert len(page) == 800


async def test_cached_series_are_found_like_others_by_their_own_tenant(
    database: Database, database_url: str
) -> None:
    execute(database_url, "INSERT INTO tenants (id, name) VALUES (7, 'theirs')")
    known, selector = SeriesCatalog(), parse_selector('up{env="production"}')
    for round_ in range(3):
        for tenant in (1, 7):
            name = named("up", env="production", n=f"{tenant}.{round_}")
            await store(database, {name: []}, tenant_id=tenant)
            async with database.reading() as connection:
                found = await SeriesRepository(connection, tenant, known).select(selector, limit=9)
                anew = await SeriesRepository(connection, tenant).select(selector, limit=9)

            theirs = {f"{tenant}.{n}" for n in range(round_ + 1)}
            assert {one.labels["n"] for one in found} == theirs
            assert found == anew
    assert len(known) == 6


async def test_matchers_select_as_they_do_in_prometheus(
    client: AsyncClient, database: Database
) -> None:
    await store(
        database,
        {
            **{named("up", host=host): [] for host in ("", "a1", "a2", "b1")},
            SeriesName.of("http.server.duration", {"service.name": "über", "host": "c1"}): [],
        },
    )

    for match, hosts in {
        "up": ["", "a1", "a2", "b1"],
        'up{host="a1"}': ["a1"],
        'up{host!="a1"}': ["", "a2", "b1"],
        'up{host=~"a"}': [],
        'up{host=~"a."}': ["a1", "a2"],
        'up{host!~"a."}': ["", "b1"],
        'up{host=""}': [""],
        'up{host!=""}': ["a1", "a2", "b1"],
        'up{host=~"|b1"}': ["", "b1"],
        'up{nothing=""}': ["", "a1", "a2", "b1"],
        'up{host=~"a1|b1",host!="b1"}': ["a1"],
        '{__name__=~"u.",host=~".*2"}': ["a2"],
        '{"up","host"="b1"}': ["b1"],
        "{'up', host='b1',}": ["b1"],
        '{"http.server.duration","service.name"="über"}': ["c1"],
    }.items():
        answer = await client.get("/v1/series", params={"match": match})

        found = [one["labels"].get("host", "") for one in answer.json()["series"]]
        assert sorted(found) == hosts, match


@pytest.mark.parametrize(
    "match",
    [
        *("", " ", "{}", "up{", "up}", 'up{host=~"("}', 'up{host=~".*"} or down', "1", "up[5m]"),
        *("rate(up[5m])", "up offset 5m", "up @ 0", "sum(up)", '{host=~".*"}', "up{host}"),
        *('{host=""}', 'up{host="a" or host="b"}', "up{host=1}", 'up{host=~"a{1001}{1001}"}'),
        *('{"up"', "up{host='\\ud800'}", "\ufffe", "🙂", '"up"', "(" * 5000, "up" * 5000),
    ],
)
def test_an_invalid_selector_is_refused_with_a_reason(match: str) -> None:
    with pytest.raises(InvalidSelector, match=r"\w+"):
        parse_selector(match)


async def test_every_route_refuses_an_invalid_selector(client: AsyncClient) -> None:
    for path in ("series", "samples", "latest", "range", "labels", "labels/host/values"):
        answer = await client.get(f"/v1/{path}", params={"match": "sum(up)"})

        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "invalid_selector"
        assert "sum(up" in answer.json()["detail"]


@given(
    match=st.text(max_size=60)
    | st.text(alphabet="up_:{}()[]=!~<>,.\"'`\\xu0aé\n +-*/^@#5m", max_size=60)
    | st.lists(
        st.sampled_from(
            ["up", "{", "}", "a", "=", "!=", "=~", "!~", '"b"', "'(?P<x>.)'", ",", " or "]
        )
    ).map("".join)
)
@settings(max_examples=1_000)
def test_any_text_is_a_selector_or_refused_as_one(match: str) -> None:
    try:
        selector = parse_selector(match)
    except InvalidSelector:
        return
    selector.accepts("up", {"a": "b"})
