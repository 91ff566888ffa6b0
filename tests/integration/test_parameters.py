"""Unknown query parameters: rejected by our own routes, ignored by compatible ones."""

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import AsyncClient
from integration.conftest import serving
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from infrawatch.app import create_app
from infrawatch.settings import Settings

OTHERS = (
    *("/v1/metrics", "/v1/logs", "/v1/traces", "/v1/collectd", "/v1/exposition"),
    "/v1/session/oidc",  # where an identity provider sends browsers with whatever it adds
)
FOREIGN = (
    ("POST", "/v1/metrics"),
    ("POST", "/v1/collectd"),
    ("POST", "/v1/exposition"),
    ("POST", "/api/v1/write"),
    ("POST", "/write"),
    ("POST", "/api/v2/write"),
    ("POST", "/api/v3/write_lp"),
    ("POST", "/api/v1/import"),
    ("GET", "/ping"),
    ("GET", "/query"),
    ("GET", "/api/v1/labels"),
    ("GET", "/livez"),
)


def routes_of_ours() -> Iterator[tuple[str, str]]:
    """Method and path of each, with something in place of what a path leaves open."""
    for one in iter_route_contexts(create_app(Settings(_env_file=None)).routes):
        path = str(one.path)
        if isinstance(one.original_route, APIRoute) and path.startswith("/v1/"):
            for method in one.methods or ():
                if not path.startswith(OTHERS):
                    yield method, re.sub(r"\{[\w:]+\}", "abcdef", path)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unknown_parameter_is_refused_on_every_own_route(
    shared_client: AsyncClient,
) -> None:
    routes = set(routes_of_ours())

    assert routes >= {("POST", "/v1/samples"), ("GET", "/v1/range"), ("DELETE", "/v1/limits")}
    for method, path in routes:
        answer = await shared_client.request(method, path, params={"no_such_thing": "1"})
        assert answer.status_code == 422, path
        [told] = answer.json()["errors"]
        assert (told["parameter"], told["code"]) == ("no_such_thing", "unknown_parameter"), path


@pytest.mark.asyncio(loop_scope="module")
async def test_foreign_protocols_may_send_any_parameters(shared_client: AsyncClient) -> None:
    for method, path in FOREIGN:
        answer = await shared_client.request(method, path, params={"no_such_thing": "1"})
        assert "no_such_thing" not in answer.text, path
        assert answer.status_code != 404, path


@pytest.mark.parametrize(
    ("asked", "parameter", "detail"),
    [
        ("stpe=5m", "stpe", "no such parameter; did you mean step?"),
        ("_=1790000000", "_", "no such parameter; there are across, by, end, fn, match, "),
        ("=", "", "no such parameter; there are"),
        ("step=5m&step=1m", "step", "it is there more than once: send one"),
        (f"{'x' * 10_000}=1", "x" * 50, "no such parameter; there are"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_nearest_names_are_suggested(
    shared_client: AsyncClient, asked: str, parameter: str, detail: str
) -> None:
    told = (await shared_client.get(f"/v1/range?match=up&{asked}")).json()

    assert [one["parameter"] for one in told["errors"]] == [parameter]
    assert told["errors"][0]["detail"].startswith(detail)
    assert told["detail"].startswith(f"a parameter does not fit: {parameter}: {detail}")


async def test_a_batch_with_an_unknown_parameter_is_not_stored(
    client: AsyncClient,
) -> None:
    batch = {"series": [{"metric": "up", "samples": [[1, 1]]}]}
    answer = await client.post("/v1/samples", params={"dryrun": "true"}, json=batch)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["detail"].endswith("did you mean dry_run?")
    assert (await client.get("/v1/series", params={"match": "up"})).json()["series"] == []


async def test_missing_permission_is_reported_before_other_errors(database_url: str) -> None:
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        for path in ("/v1/range", "/v1/keys", "/v1/limits", "/v1/live/sse"):
            answer = await client.get(path, params={"no_such_thing": "1"})
            assert answer.status_code == 401, path


@pytest.mark.asyncio(loop_scope="module")
async def test_socket_parameters_are_not_put_in_the_url(shared_server: str) -> None:
    url = shared_server.replace("http", "ws", 1)

    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{url}/v1/live?match=up")

    assert refused.value.response.status_code == 422
    assert b"no such parameter; this takes none" in refused.value.response.body
