"""Whatever a tenant thinks of asking, another one's data changes nothing of what it is answered.

The same questions go to two servers: on one another tenant has data, on the other it has none.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from conftest import Clone
from documented_requests import EVERYTHING, SECRET, T_MS, Question, questions, without
from httpx import AsyncClient
from integration.conftest import serving
from keys import a_key, a_tenant, bearing
from thorough import IS_THOROUGH
from viewing import viewing

from infrawatch.access.principal import SCOPES
from infrawatch.query.functions import Function

pytestmark = pytest.mark.asyncio(loop_scope="module")

OURS = "alpha"
VALUE = 31_415_926
"""Of the other tenant's samples, and of nothing else."""

VOLATILE = {
    "request_id",
    "cursor",
    "ticket",
    "last_used_at",
    "created_at",
    "at",
    "next_before",
    "live",
}

UNENDING = "/v1/live/sse"

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.+Z]+")
"""Refusals say what would have been early or late enough by the clock."""

EXAMPLES = 600 if IS_THOROUGH else 100
SEED = secrets.randbits(32) if IS_THOROUGH else 7
"""It is named when a test fails."""


@dataclass(frozen=True, slots=True, repr=False)
class World:
    """A server, the key of the tenant that asks, and the other one's."""

    client: AsyncClient
    url: str
    key: str
    other: str

    @property
    def key_id(self) -> str:
        return self.key.split("_")[1]


@dataclass(frozen=True, slots=True, repr=False)
class Worlds:
    """`theirs` are the other tenant's ids, of its key and its series; `empty` has none of them."""

    full: World
    empty: World
    operations: Sequence[tuple[str, dict[str, Any]]]
    writes: Sequence[Question]
    theirs: Sequence[str]

    @property
    def both(self) -> tuple[World, World]:
        return self.full, self.empty


def writes(document: dict[str, Any]) -> Iterator[Question]:
    """Samples in every format there is, and what else is sent with a body, but logins and keys."""
    for question in questions(document):
        if question.has_body and "/session" not in question.path and "/keys" not in question.path:
            yield question


async def fill(client: AsyncClient, mark: str, value: int, key: str) -> None:
    document = (await client.get("/openapi.json")).json()
    for question in writes(document):
        request = question.to_request(mark, value)
        request["headers"] |= bearing(key)
        await client.request(**request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds(clone: Clone, template: str) -> AsyncIterator[Worlds]:
    async with AsyncExitStack() as stack:
        full, theirs = await open_world(stack, clone(template), has_data=True)
        empty, _ = await open_world(stack, clone(template), has_data=False)
        document = (await full.client.get("/openapi.json")).json()
        operations = [
            (path, operations["get"])
            for path, operations in document["paths"].items()
            if "get" in operations and path != UNENDING
        ]
        assert len(theirs) > 5
        samples = [
            question
            for question in writes(document)
            if "ingest" in document["paths"][question.template][question.method.lower()]["tags"]
        ]
        yield Worlds(full, empty, operations, samples, theirs)


async def open_world(
    stack: AsyncExitStack, database: AbstractContextManager[str], *, has_data: bool
) -> tuple[World, list[str]]:
    """A server with two tenants: the one that asks has data, the other one has some or none."""
    database_url = stack.enter_context(database)
    ours, other = [
        await a_key(
            database_url, *SCOPES, tenant_id=await a_tenant(database_url, name), name=f"of {name}"
        )
        for name in (OURS, SECRET)
    ]
    url = await stack.enter_async_context(serving(database_url, auth="required"))
    client = await stack.enter_async_context(AsyncClient(base_url=url, timeout=60))
    await fill(client, OURS, 1, ours)
    theirs = [other.split("_")[1]]
    if has_data:
        await fill(client, SECRET, VALUE, other)
        every = {"match": '{__name__=~".+"}'}
        answer = await client.get("/v1/series", params=every, headers=bearing(other))
        theirs += [one["id"] for one in answer.json()["series"]]
    client.headers.update(bearing(ours))
    return World(client, url, ours, other), theirs


NAMES = ["shared", "host", "who", "__name__", f"{SECRET}_total", SECRET, OURS, f"{SECRET}_text"]
VALUES = ["a", "b", SECRET, OURS, "", ".+", "c.*d", f"{SECRET}|{OURS}", str(VALUE), "'--", "ü"]
OPERATORS = ["=", "!=", "=~", "!~"]
NONSENSE = ["", "-1", "a b", "ü", "'--", "%", "{", "null", "9" * 30, "1e999"]

SECONDS = T_MS // 1000
PARAMETERS = {
    "start": [str(SECONDS - 60), str(SECONDS), "2001-01-01T00:00:00Z"],
    "time": [str(SECONDS), str(SECONDS + 60)],
    "end": [str(SECONDS + 60), str(SECONDS), str(SECONDS + 7_200)],
    "step": ["1s", "30s", "1h"],
    "fn": [one.value for one in Function],
    "across": ["sum", "count", "max"],
    "max_age": ["all", "1s", "10y"],
    "limit": ["0", "1", "2", "5", "1000", "100000"],
    "precision": ["ms", "ns", "s"],
}
"""Fixed times, so that both give the same response; other parameters take any name or id."""


QUERIES = ["{}", "count({})", "sum by (who) ({})", "topk(2, {})", "{} or on() {}", "absent({})"]


def a_selector(chance: Random) -> str:
    matchers = ",".join(
        f"{chance.choice(NAMES)}{chance.choice(OPERATORS)}{json.dumps(chance.choice(VALUES))}"
        for _ in range(chance.randrange(4))
    )
    return f"{chance.choice(['', *NAMES])}{{{matchers}}}"


def a_value(chance: Random, parameter: str, theirs: Sequence[str]) -> str:
    if chance.random() < 0.1:
        return chance.choice(NONSENSE)
    if parameter in {"match", "match[]"}:
        return a_selector(chance)
    if parameter == "query":
        return chance.choice(QUERIES).format(a_selector(chance), a_selector(chance))
    return chance.choice(PARAMETERS.get(parameter) or [*NAMES, *theirs, "1", "99999"])


async def test_answers_are_the_same_whether_or_not_another_tenant_has_data(worlds: Worlds) -> None:
    chance = Random(SEED)
    statuses = set()
    for _ in range(EXAMPLES):
        path, operation = chance.choice(worlds.operations)
        query = {}
        for parameter in operation.get("parameters", ()):
            name, value = parameter["name"], a_value(chance, parameter["name"], worlds.theirs)
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(value, safe="") or "a")
            elif parameter["in"] == "query" and (parameter["required"] or chance.random() < 0.5):
                query[name] = value

        full, empty = [await asked(one, "GET", path, query) for one in worlds.both]

        assert full == empty, (SEED, path, query)
        assert_tells_nothing(full, worlds, (path, query))
        statuses.add(full[0])
    assert {200, 422} <= statuses
    assert not any(status >= 500 for status in statuses)


async def test_a_tenant_deletes_only_its_own_data(worlds: Worlds) -> None:
    for wanted in (*worlds.theirs[:4], *NAMES):
        for path, query in ((f"/v1/keys/{wanted}", {}), ("/v1/limits", {"key_id": wanted})):
            full, empty = [await asked(one, "DELETE", path, query) for one in worlds.both]
            assert full == empty, (path, query)
            assert full[0] >= 400, (path, query)


async def test_frames_are_the_same_whether_or_not_another_tenant_has_data(worlds: Worlds) -> None:
    chance = Random(SEED)
    for _ in range(EXAMPLES // 10):
        matches = [a_selector(chance) for _ in range(3)]

        full, empty = [await watched(one, matches) for one in worlds.both]

        assert full == empty, (SEED, matches)
        assert_tells_nothing(full, worlds, matches)


async def test_writes_are_answered_alike_and_change_no_data_of_another_tenant(
    worlds: Worlds,
) -> None:
    """Its series are called the same, its values are others; some bodies are damaged."""
    chance = Random(SEED)
    before = [await kept(one, one.other) for one in worlds.both]
    statuses = set()
    for _ in range(EXAMPLES):
        request = a_write(chance, worlds.writes)

        full, empty = [await written(one, request) for one in worlds.both]

        assert full == empty, (SEED, request)
        assert_tells_nothing(full, worlds, request)
        statuses.add(full[0])
    assert {200, 204, 400, 422} <= statuses
    assert not any(status >= 500 for status in statuses)
    ours = [await kept(one, one.key) for one in worlds.both]
    assert ours[0] == ours[1]
    assert len(ours[0]) > 10
    assert [await kept(one, one.other) for one in worlds.both] == before


async def test_a_cursor_of_another_tenant_shows_only_ones_own(worlds: Worlds) -> None:
    """Whoever finds one may wait for that write as well, and is answered as without it."""
    chance = Random(SEED)
    cursors = []
    for key, mark, value in ((worlds.full.other, SECRET, VALUE), (worlds.full.key, OURS, 1)):
        body = {"series": [{"metric": mark, "labels": {}, "samples": [[T_MS, value]]}]}
        answer = await worlds.full.client.post("/v1/samples", json=body, headers=bearing(key))
        cursors.append(answer.json()["cursor"])
    for _ in range(EXAMPLES // 4):
        path = chance.choice(["/v1/series", "/v1/samples", "/v1/latest", "/v1/range", "/v1/labels"])
        query = {name: a_value(chance, name, worlds.theirs) for name in ("match", "start", "end")}
        if path == "/v1/range":
            query |= {"step": "30s", "fn": chance.choice(PARAMETERS["fn"])}
        known = await asked(worlds.full, "GET", path, query)
        cut = chance.choice([None, None, chance.randrange(len(cursors[0]))])

        theirs, ours = [
            await asked(worlds.full, "GET", path, {**query, "wait_for": cursor[:cut]})
            for cursor in cursors
        ]

        assert cut is not None or theirs == ours == known, (SEED, path, query)
        assert theirs[0] == ours[0] < 500, (SEED, path, query, cut)
        assert str(VALUE) in str(query) or str(VALUE) not in str(theirs), (SEED, path, query)


def a_write(chance: Random, possible: Sequence[Question]) -> dict[str, Any]:
    """An arbitrary request that writes, with names of this tenant or of others."""
    mark = chance.choice([SECRET, OURS, "third"])
    request = chance.choice(possible).to_request(mark, chance.randrange(100))
    request["params"] |= {
        name: value
        for name, value in {"partial": "true", "dry_run": "true", "precision": "s"}.items()
        if chance.random() < 0.2
    }
    body = request["content"]
    if chance.random() < 0.4:
        place = chance.randrange(len(body))
        piece = chance.choice([b"", b"9", b'"', b"{", b"\xff", b"\n", b",", body[place:]])
        request["content"] = body[:place] + piece + body[place + chance.randrange(3) :]
    return request


async def written(world: World, request: dict[str, Any]) -> tuple[int, object]:
    answer = await world.client.request(**request)
    text = _MOMENT.sub("then", answer.text.replace(world.key_id, "our key"))
    try:
        return answer.status_code, without(json.loads(text), VOLATILE)
    except ValueError:
        return answer.status_code, text


async def kept(world: World, key: str) -> list[tuple[str, object]]:
    """All that a tenant has of about that moment; ids tell in which order series were made."""
    span = {"match": EVERYTHING, "start": str(SECONDS - 300), "end": str(SECONDS + 300)}
    answer = await world.client.get("/v1/samples", params=span, headers=bearing(key))
    return sorted(
        (json.dumps([one["metric"], one["labels"]]), one["samples"])
        for one in answer.json()["series"]
    )


async def asked(world: World, method: str, path: str, query: dict[str, str]) -> tuple[int, object]:
    answer = await world.client.request(method, path, params=query)
    text = answer.text.replace(world.key_id, "our key")
    try:
        return answer.status_code, without(json.loads(text), VOLATILE)
    except ValueError:
        return answer.status_code, text


async def watched(world: World, matches: list[str]) -> list[dict[str, Any]]:
    """What comes of each subscription: its series and snapshot, or an error."""
    frames: list[dict[str, Any]] = []
    async with viewing(world.url, additional_headers=bearing(world.key)) as viewer:
        for number, match in enumerate(matches):
            since = str(SECONDS - 60)
            await viewer.send(
                {"type": "subscribe", "id": str(number), "match": match, "since": since}
            )
            while not frames or frames[-1]["type"] not in ("snapshot", "error"):
                frames.append(without(await viewer.next(), VOLATILE))
            frames.append({"type": "next"})
    return frames


def assert_tells_nothing(answer: object, worlds: Worlds, question: object) -> None:
    for mark in (SECRET, str(VALUE), worlds.theirs[0]):
        assert mark in str(question) or mark not in str(answer), mark
    named = {text for text in words(answer) if text not in str(question)}
    assert named.isdisjoint(worlds.theirs)


def words(value: Any) -> Iterator[str]:
    """All texts in an answer, names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from words(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from words(one)
