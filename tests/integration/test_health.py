"""/livez, /readyz and /metrics say how the server is doing."""

import pytest
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from prometheus_client.parser import text_string_to_metric_families
from pushing import find_count, push, push_lines, series

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_server_that_runs_is_alive_and_ready(shared_client: AsyncClient) -> None:
    alive = await shared_client.get("/livez")
    ready = await shared_client.get("/readyz")

    assert (alive.status_code, alive.json()["status"]) == (200, "alive")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["failures"] == {}


async def test_a_database_of_another_version_is_not_ready_and_the_reason_is_given(
    database_url: str,
) -> None:
    async with serving(database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        execute(database_url, "UPDATE alembic_version SET version_num = '0000'")

        answer = await client.get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["status"] == "not ready"
        assert "infrawatch migrate" in answer.json()["failures"]["database"]
        assert (await client.get("/livez")).status_code == 200


async def test_our_own_metrics_can_be_read_by_prometheus(shared_client: AsyncClient) -> None:
    await push(shared_client, series("up"))

    answer = await shared_client.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    assert {
        "infrawatch_http_requests",
        "infrawatch_http_request_duration_seconds",
        "infrawatch_samples_accepted",
        "infrawatch_samples_rejected",
        "infrawatch_samples_folded",
        "infrawatch_write_backlog_samples",
        "infrawatch_commit_duration_seconds",
        "infrawatch_group_samples",
        "infrawatch_groups_failed",
        "infrawatch_series_resolved",
        "infrawatch_pool_connections",
    } <= families.keys()
    assert all(one.documentation for one in families.values())


async def test_samples_are_counted_by_outcome(shared_client: AsyncClient) -> None:
    accepted = 'infrawatch_samples_accepted_total{format="native"}'
    too_old = 'infrawatch_samples_rejected_total{code="too_old",format="native"}'
    invalid = 'infrawatch_samples_rejected_total{code="invalid_metric",format="native"}'
    names = (accepted, too_old, invalid)
    mixed = [series("counted"), series("counted", [1, 1], [2, 2]), series("9")]
    await push(shared_client, *mixed, partial="true")
    before = [await find_count(shared_client, name) for name in names]

    await push(shared_client, *mixed, partial="true")
    await push_lines(shared_client, *mixed)

    after = [await find_count(shared_client, name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 4, 2]


async def test_requests_are_counted_under_their_route_never_under_their_path(
    shared_client: AsyncClient,
) -> None:
    for path in ("/v1/labels/host/values", "/v1/labels/other/values", "/v1/secret", "/x/../y"):
        await shared_client.get(path)
    await push(shared_client, 1)

    text = (await shared_client.get("/metrics")).text

    template = "/v1/labels/{name:path}/values"
    requests = f'infrawatch_http_requests_total{{method="GET",route="{template}",status="200"}} 2.0'
    assert requests in text
    assert 'route="/v1/samples",status="422"' in text
    assert 'route="unmatched",status="404"' in text
    assert "secret" not in text
