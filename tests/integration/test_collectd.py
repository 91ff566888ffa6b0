"""POST /v1/collectd against a real server."""

import json

import pytest
from httpx import AsyncClient
from pushing import find_stored, now_ms

from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")


def record(type_: str, *values: object, **more: object) -> dict[str, object]:
    return {
        "values": values,
        "dstypes": ["gauge"] * len(values),
        "dsnames": [f"ds{n}" for n in range(len(values))],
        "time": now_ms() / 1000,
        "interval": 10,
        "host": "web-1",
        "plugin": "cpu",
        "plugin_instance": "0",
        "type": type_,
        "type_instance": "",
        **more,
    }


async def test_records_are_stored(shared_client: AsyncClient, shared_database: Database) -> None:
    time = now_ms()
    sent = [record("load", 0.5, 0.25, time=time / 1000), record("temp", 40, time=time / 1000)]

    answer = await shared_client.post("/v1/collectd", json=sent)

    assert (answer.status_code, answer.content) == (204, b"")
    labels = {"host": "web-1", "plugin": "cpu", "plugin_instance": "0"}
    assert await find_stored(shared_database, "load.ds0") == [(labels, time * 1000, 0.5)]
    assert await find_stored(shared_database, "load.ds1") == [(labels, time * 1000, 0.25)]
    assert await find_stored(shared_database, "temp") == [
        ({**labels, "dsname": "ds0"}, time * 1000, 40.0)
    ]


async def test_the_types_of_sources_become_metadata(shared_client: AsyncClient) -> None:
    await shared_client.post("/v1/collectd", json=[record("octets", 1, dstypes=["derive"])])

    metadata = (await shared_client.get("/v1/metadata", params={"metric": "octets"})).json()

    assert "counter" in json.dumps(metadata)


async def test_the_good_records_of_a_bad_body_are_stored(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    sent = [record("fine", 1), record("wrong", "x"), record("old", 1, time=5)]

    answer = await shared_client.post("/v1/collectd", json=sent)

    assert answer.status_code == 400
    assert answer.text.startswith("2 samples refused, 1 stored; /1/values/0: wrong_type: ")
    assert "/2/time: too_old: " in answer.text
    assert len(await find_stored(shared_database, "fine")) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("PUTVAL a/b/c 1:2", "text/plain", 415),
        ("{}", "application/json", 400),
        ("[", "application/json; charset=utf-8", 400),
        ("[]", "application/json", 204),
    ],
)
async def test_a_body_other_than_an_array_is_refused(
    shared_client: AsyncClient, body: str, content_type: str, status: int
) -> None:
    headers = {"content-type": content_type}

    answer = await shared_client.post("/v1/collectd", content=body, headers=headers)

    assert answer.status_code == status
