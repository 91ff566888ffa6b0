"""Tenants: whatever one of them asks, on every route there is, it is answered as if it were alone.

Every operation of the OpenAPI document is asked, with every parameter it has: a route, a parameter
or a body that is new fails the test until tests/documented_requests.py says how it is asked.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
from documented_requests import EVERYTHING, SECRET, Question, questions, without
from httpx import AsyncClient
from integration.conftest import serving
from keys import a_key, a_tenant, bearing
from pushing import push, series
from viewing import viewing

from infrawatch.access.principal import SCOPES

HARMLESS = "alpha"

VOLATILE = {"request_id", "cursor", "ticket", "last_used_at", "live"}
"""Headers and fields that differ in every response, regardless of data."""

NEVER_WELL = {
    "/v1/session/oidc",
    "/v1/session/oidc/callback",
    "/v1/logs",
    "/v1/traces",
    f"/v1/keys/{SECRET}",
    "/v1/keys/abcdef",
    "/metrics",
    "/api/v1/status/runtimeinfo",
    "/api/v1/parse_query",
}
"""What no tenant but the default one is answered with less than 400."""

READS = ("series", "labels", "labels/who/values", "metadata", "latest", "samples", "range", "audit")


@dataclass(frozen=True, slots=True)
class Tenant:
    mark: str
    value: int
    id: int
    key: str


Answers = Mapping[Question, tuple[int, object]]


async def tenant(database_url: str, mark: str, value: int) -> Tenant:
    tenant_id = await a_tenant(database_url, mark)
    key = await a_key(database_url, *SCOPES, tenant_id=tenant_id, name=f"key of {mark}")
    return Tenant(mark, value, tenant_id, key)


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[AsyncClient]:
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


async def ask_all(client: AsyncClient, asker: Tenant, *, reads: bool = True) -> Answers:
    document = (await client.get("/openapi.json")).json()
    asked = [one for one in questions(document) if reads or one.method != "GET"]
    return {one: await ask(client, asker, one) for one in asked}


async def ask(client: AsyncClient, asker: Tenant, question: Question) -> tuple[int, object]:
    request = question.to_request(asker.mark, asker.value)
    request["headers"] |= bearing(asker.key)
    async with client.stream(**request) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            text = ""
            async for line in answer.aiter_lines():
                text += line
                if line.startswith('data: {"type":"snapshot"'):
                    break
            return answer.status_code, re.sub(r'"cursor":"[^"]*"|id: \S+?data', "", text)
        content = (await answer.aread()).decode()
    try:
        return answer.status_code, without(json.loads(content), VOLATILE)
    except ValueError:
        return answer.status_code, content


async def test_no_route_reveals_data_of_another_tenant(
    client: AsyncClient, database_url: str
) -> None:
    ours = await tenant(database_url, HARMLESS, 1)
    await ask_all(client, ours, reads=False)
    alone = await ask_all(client, ours)
    assert {one.path for one in alone if all_failed(alone, one.path)} <= NEVER_WELL | {"/v1/keys"}

    theirs = await tenant(database_url, SECRET, 2)
    await ask_all(client, theirs, reads=False)
    told = await ask_all(client, theirs)
    together = await ask_all(client, ours)

    for question, answer in together.items():
        assert answer == alone[question], question
        if SECRET not in str(question):
            assert SECRET not in str(answer), question
        assert HARMLESS not in str(told[question]), question
    for path in READS:  # else there would be nothing to hide
        assert any(SECRET in str(told[one]) for one in told if one.path == f"/v1/{path}"), path


def all_failed(answers: Answers, path: str) -> bool:
    return all(status >= 400 for one, (status, _) in answers.items() if one.path == path)


async def test_no_frame_reveals_data_of_another_tenant(
    client: AsyncClient, database_url: str
) -> None:
    ours, theirs = [await tenant(database_url, HARMLESS, 1), await tenant(database_url, SECRET, 2)]
    await ask_all(client, theirs, reads=False)

    url = str(client.base_url)
    async with viewing(url, additional_headers=bearing(ours.key)) as viewer:
        for number, match in enumerate((EVERYTHING, "shared", f'{{who="{SECRET}"}}')):
            await viewer.subscribe(match, id=str(number), since="-1h")
        await ask_all(client, theirs, reads=False)
        client.headers.update(bearing(ours.key))
        await push(client, series("last"))
        await viewer.until(lambda: viewer.pictures["0"].samples)

    assert [len(one.samples) for one in viewer.pictures.values()] == [1, 0, 0]
    assert SECRET not in json.dumps(viewer.frames)


async def test_administrators_reach_no_keys_of_another_tenant(
    client: AsyncClient, database_url: str
) -> None:
    ours, theirs = [await tenant(database_url, HARMLESS, 1), await tenant(database_url, SECRET, 2)]
    operator = bearing(await a_key(database_url, "admin"))
    theirs_id = theirs.key.split("_")[1]

    refused = await client.delete(f"/v1/keys/{theirs_id}", headers=bearing(ours.key))
    nobodys = await client.delete("/v1/keys/abcdef", headers=bearing(ours.key))
    works = await client.get("/v1/labels", headers=bearing(theirs.key))
    wish = {"name": "a", "scopes": ["read"], "tenant": SECRET}
    made = [
        (await client.post("/v1/keys", json=wish, headers=headers)).status_code
        for headers in (bearing(ours.key), operator)
    ]
    seen = [
        {one["tenant"] for one in (await client.get("/v1/keys", headers=headers)).json()["keys"]}
        for headers in (bearing(ours.key), operator)
    ]

    assert (refused.status_code, works.status_code) == (404, 200)
    assert refused.json()["detail"].replace(theirs_id, "abcdef") == nobodys.json()["detail"]
    assert made == [403, 201]
    assert seen == [{HARMLESS}, {HARMLESS, SECRET, "default"}]


async def test_metrics_cover_all_tenants_so_only_the_default_one_may_read_them(
    client: AsyncClient, database_url: str
) -> None:
    ours = await tenant(database_url, HARMLESS, 1)
    operator = await a_key(database_url, "read")

    assert (await client.get("/metrics", headers=bearing(ours.key))).status_code == 403
    assert (await client.get("/metrics", headers=bearing(operator))).status_code == 200
