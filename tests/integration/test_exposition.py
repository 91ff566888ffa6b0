"""POST /v1/exposition against a real server, and a real client of the Pushgateway."""

import asyncio
import json
from collections.abc import Callable

import pytest
from httpx import AsyncClient
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, pushadd_to_gateway
from pushing import find_stored, now_ms

from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN = {"content-type": "text/plain; version=0.0.4"}


async def test_a_page_is_stored_with_the_labels_given(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    time = now_ms()
    page = f'# TYPE page_total counter\npage_total{{code="200"}} 7 {time}\npage_total 8 {time}\n'

    answer = await shared_client.post(
        "/v1/exposition",
        content=page,
        headers=PLAIN,
        params={"extra_label": ["host=web-1", "job=a=b"]},
    )

    assert (answer.status_code, answer.content) == (204, b"")
    labels = {"host": "web-1", "job": "a=b"}
    stored = await find_stored(shared_database, "page_total")
    assert sorted(stored, key=lambda row: row[2]) == [
        ({**labels, "code": "200"}, time * 1000, 7.0),
        (labels, time * 1000, 8.0),
    ]
    metadata = (await shared_client.get("/v1/metadata", params={"metric": "page_total"})).json()
    assert "counter" in json.dumps(metadata)


async def test_special_values_are_stored(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    await shared_client.post("/v1/exposition", content="special +Inf\n", headers=PLAIN)

    assert [value for *_, value in await find_stored(shared_database, "special")] == [float("inf")]


async def test_the_good_lines_of_a_bad_page_are_stored(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    page = "fine 1\nwrong one\nfine{a=b} 1\n# TYPE fine thing\nold 1 5\n"

    answer = await shared_client.post("/v1/exposition", content=page, headers=PLAIN)

    assert answer.status_code == 400
    assert answer.text.startswith("3 samples refused, 1 stored; line 2: malformed_line: expected a")
    for reason in ("line 3: malformed_line", "line 4: unknown_value", "line 5: too_old"):
        assert reason in answer.text
    assert len(await find_stored(shared_database, "fine")) == 1


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/x-www-form-urlencoded", 204),  # curl --data-binary
        ("application/octet-stream", 204),
        ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", 415),
        ("application/json", 415),
    ],
)
async def test_other_formats_are_not_taken_for_this_one(
    shared_client: AsyncClient, content_type: str, status: int
) -> None:
    headers = {"content-type": content_type}

    answer = await shared_client.post("/v1/exposition", content="typed 1\n", headers=headers)

    assert answer.status_code == status


async def test_a_page_of_openmetrics_is_stored(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    headers = {"content-type": "application/openmetrics-text; version=1.0.0; charset=utf-8"}
    now_s = now_ms() // 1000
    page = f'# TYPE jobs counter\njobs_total 3 {now_s}.5 # {{trace_id="1"}} 1\n'

    good = await shared_client.post("/v1/exposition", content=f"{page}# EOF\n", headers=headers)
    cut = await shared_client.post("/v1/exposition", content=page, headers=headers)

    assert (good.status_code, cut.status_code) == (204, 400)
    assert "# EOF" in cut.text
    [(_, at, value)] = await find_stored(shared_database, "jobs_total")
    assert (at, value) == (now_s * 1_000_000 + 500_000, 3)
    described = (await shared_client.get("/v1/metadata")).json()["metadata"]
    assert described["jobs_total"]["type"] == "counter"


@pytest.mark.parametrize("written", ["a", "=b", ""])
async def test_an_extra_label_must_have_a_name(shared_client: AsyncClient, written: str) -> None:
    answer = await shared_client.post(
        "/v1/exposition", content="m 1", headers=PLAIN, params={"extra_label": written}
    )

    assert answer.status_code == 422
    assert "name=value" in answer.text


@pytest.mark.parametrize("push", [push_to_gateway, pushadd_to_gateway])
async def test_a_client_of_the_pushgateway_needs_another_address_only(
    shared_server: str, shared_database: Database, push: Callable[..., None]
) -> None:
    registry = CollectorRegistry()
    name = f"last_success_{push.__name__}"
    Gauge(name, "When it worked.", ["database"], registry=registry).labels("shop").set(1.79e9)

    await asyncio.to_thread(
        push, f"{shared_server}/v1/exposition", "backup/daily", registry, {"instance": "db-1"}
    )

    [(labels, _, value)] = await find_stored(shared_database, name)
    assert labels == {"job": "backup/daily", "instance": "db-1", "database": "shop"}
    assert value == 1.79e9


async def test_a_push_is_answered_as_the_pushgateway_does(shared_client: AsyncClient) -> None:
    path = "/v1/exposition/metrics/"
    good = await shared_client.put(f"{path}job/a", content="pushed 1\n", headers=PLAIN)
    bad = await shared_client.put(f"{path}job/a", content="pushed one\n", headers=PLAIN)
    lost = await shared_client.put(f"{path}instance/a", content="pushed 1\n", headers=PLAIN)

    assert [good.status_code, bad.status_code, lost.status_code] == [200, 400, 422]
    assert "job/<job>" in lost.text
