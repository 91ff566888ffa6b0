"""What Grafana's data source for Prometheus asks, and how it asks."""

from typing import Any

import pytest
from httpx import AsyncClient
from pushing import now_ms
from sqlalchemy import text

from infrawatch.store.database import Database

EMPTY: list[tuple[str, Any]] = [
    ("rules", {"groups": []}),
    ("rules?type=alert", {"groups": []}),
    ("alerts", {"alerts": []}),
    ("alertmanagers", {"activeAlertmanagers": [], "droppedAlertmanagers": []}),
    ("targets", {"activeTargets": [], "droppedTargets": []}),
    ("targets/metadata", []),
    ("query_exemplars?query=up&start=1&end=2", []),
]


@pytest.mark.parametrize(("path", "data"), EMPTY)
async def test_data_that_is_not_kept_is_an_empty_list(
    client: AsyncClient, path: str, data: object
) -> None:
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 200
    assert answer.json() == {"status": "success", "data": data}


async def test_a_data_source_is_saved_and_tested(client: AsyncClient) -> None:
    tenant = {"X-Scope-OrgID": "1"}
    health = await client.post(
        "/api/v1/query", data={"query": "1+1", "time": "4", "timeout": "60s"}, headers=tenant
    )
    assert health.json()["data"] == {"resultType": "scalar", "result": [4.0, "2"]}
    build = (await client.get("/api/v1/status/buildinfo")).json()["data"]
    assert build["version"] == "2.45.0"


@pytest.mark.parametrize("form", [None, {"time": "4"}, {"time": "4", "query": "1+1"}])
async def test_parameters_of_a_post_may_be_in_the_url_and_the_form_wins(
    client: AsyncClient, form: dict[str, str] | None
) -> None:
    query = "2+2" if form and "query" in form else "1+1"
    answer = await client.post(
        "/api/v1/query", params={"query": query, "time": "9" if form else "4"}, data=form
    )
    assert answer.json()["data"] == {"resultType": "scalar", "result": [4.0, "2"]}

    selectors = {"match[]": ["up", "down"]}
    series = await client.post("/api/v1/series", params=selectors, data=form)
    assert (series.status_code, series.json()["data"]) == (200, [])


async def test_variables_are_filled(client: AsyncClient) -> None:
    await _send(client, "up", {"a": 1, "b": 1, "c": 0})
    labels = await client.get("/api/v1/labels", params={"match[]": "up", "limit": "40000"})
    assert labels.json()["data"] == ["__name__", "instance"]
    values = await client.get("/api/v1/label/instance/values", params={"match[]": "up==1"})
    assert values.status_code == 400
    assert values.json()["errorType"] == "bad_data"
    values = await client.get("/api/v1/label/instance/values", params={"match[]": "up", "limit": 2})
    assert values.json()["data"] == ["a", "b"]
    form = {"match[]": 'up{instance="c"}', "start": "-1h", "end": "now"}
    series = await client.post("/api/v1/series", data=form)
    assert series.json()["data"] == [{"__name__": "up", "instance": "c"}]


async def test_an_answer_with_a_limit_warns_that_it_is_cut(client: AsyncClient) -> None:
    await _send(client, "up", {"a": 1, "b": 1, "c": 0})
    ranged = {"query": "up", "start": "-5m", "end": "now", "step": "60"}
    for path, asked in (("query", {"query": "up"}), ("query_range", ranged)):
        whole = (await client.post(f"/api/v1/{path}", data=asked | {"limit": "3"})).json()
        assert len(whole["data"]["result"]) == 3
        assert "warnings" not in whole
        cut = (await client.get(f"/api/v1/{path}", params=asked | {"limit": "2"})).json()
        assert len(cut["data"]["result"]) == 2
        assert cut["warnings"] == ["results truncated due to limit"]


@pytest.mark.parametrize("path", ["labels", "label/instance/values", "series"])
async def test_names_and_series_with_a_limit_warn_that_they_are_cut(
    client: AsyncClient, path: str
) -> None:
    await _send(client, "up", {"a": 1, "b": 1})
    for limit, count, warnings in (("1", 1, ["results truncated due to limit"]), ("2", 2, None)):
        asked = {"match[]": "up", "limit": limit}
        answer = (await client.get(f"/api/v1/{path}", params=asked)).json()
        assert (len(answer["data"]), answer.get("warnings")) == (count, warnings)


async def test_a_query_chooses_how_old_a_sample_may_be(client: AsyncClient) -> None:
    await _send(client, "seldom", {"a": 1}, age_s=420)
    asked = {"query": "seldom", "time": "now"}
    assert (await _values(client, asked)) == []
    assert (await _values(client, asked | {"lookback_delta": "10m"})) == ["1"]
    assert (await _values(client, asked | {"lookback_delta": "6m"})) == []
    wrong = await client.get("/api/v1/query", params=asked | {"lookback_delta": "soon"})
    assert wrong.status_code == 400
    assert wrong.json()["error"].startswith("lookback_delta: 'soon' is not a duration")


async def test_a_query_takes_no_longer_than_its_timeout(
    client: AsyncClient, database: Database
) -> None:
    asked = {"query": "up", "timeout": "200ms"}
    ranged = asked | {"start": "-5m", "end": "now", "step": "60"}
    async with database.writing() as connection:
        await connection.execute(text("LOCK TABLE series"))
        late = await client.get("/api/v1/query", params=asked)
        late_too = await client.post("/api/v1/query_range", data=ranged)
    for answer in (late, late_too):
        assert (answer.status_code, answer.json()["errorType"]) == (503, "timeout")
        assert "the query's timeout (0.2 s)" in answer.json()["error"]

    assert (await client.get("/api/v1/query", params=asked | {"timeout": ""})).status_code == 200
    wrong = await client.get("/api/v1/query", params=asked | {"timeout": "soon"})
    assert (wrong.status_code, wrong.json()["errorType"]) == (400, "bad_data")


async def test_an_empty_parameter_is_one_left_out(client: AsyncClient) -> None:
    empty = {"query": "1", "time": "", "lookback_delta": "", "limit": ""}
    assert (await client.get("/api/v1/query", params=empty)).status_code == 200
    names = {"start": "", "end": ""}
    assert (await client.get("/api/v1/labels", params=names)).status_code == 200


@pytest.mark.parametrize(("method", "where"), [("GET", "params"), ("POST", "data")])
async def test_a_query_is_formatted_and_a_wrong_one_is_refused(
    client: AsyncClient, method: str, where: str
) -> None:
    asked: dict[str, Any] = {where: {"query": "sum(up)by(job)"}}
    answer = await client.request(method, "/api/v1/format_query", **asked)
    assert answer.json() == {"status": "success", "data": "sum by (job) (up)"}
    wrong: dict[str, Any] = {where: {"query": "sum("}}
    for path in ("format_query", "query_exemplars", "query"):
        refused = await client.request(method, f"/api/v1/{path}", **wrong)
        assert refused.status_code == 400
        assert refused.json()["errorType"] == "bad_data"


@pytest.mark.parametrize("path", ["status/config", "status/tsdb", "parse_query?query=up"])
async def test_queries_for_internals_of_prometheus_are_refused_in_its_format(
    client: AsyncClient, path: str
) -> None:
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert answer.json()["status"] == "error"
    assert answer.json()["errorType"] == "not_found"


async def _send(client: AsyncClient, metric: str, told: dict[str, int], *, age_s: int = 0) -> None:
    at = now_ms() - age_s * 1_000
    series = [
        {"metric": metric, "labels": {"instance": name}, "samples": [[at, value]]}
        for name, value in told.items()
    ]
    answer = await client.post("/v1/samples", json={"series": series})
    assert answer.status_code == 200, answer.text


async def _values(client: AsyncClient, asked: dict[str, str]) -> list[str]:
    answer = await client.get("/api/v1/query", params=asked)
    return [one["value"][1] for one in answer.json()["data"]["result"]]
