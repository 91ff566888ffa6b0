"""Regular expressions that would take minutes are rejected, and delay no other request."""

from typing import Any

import pytest
from httpx import AsyncClient
from pushing import push, series
from viewing import viewing

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "a" * 4_000
COSTLY = "(.*a){500}.*[0-9]+"
MATCH = f'costly{{long=~"{COSTLY}"}}'
REPLACED = f'label_replace(costly,"first","$1","long","{COSTLY}")'

QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/series", {"match": MATCH}),
    ("/v1/latest", {"match": MATCH}),
    ("/v1/samples", {"match": MATCH, "start": "-5m"}),
    ("/v1/range", {"match": MATCH, "start": "-5m", "step": "1m"}),
    ("/api/v1/series", {"match[]": MATCH}),
    ("/api/v1/query", {"query": MATCH}),
    ("/api/v1/query", {"query": REPLACED}),
    ("/v1/live/sse", {"match": MATCH}),
]


@pytest.mark.parametrize(("path", "asked"), QUESTIONS, ids=[path for path, _ in QUESTIONS])
async def test_a_query_that_would_take_minutes_is_refused(
    shared_client: AsyncClient, path: str, asked: dict[str, str]
) -> None:
    some = (series("costly", labels={"long": f"{LONG}{n}"}) for n in range(5))
    assert (await push(shared_client, *some)).status_code == 200

    answer = await shared_client.get(path, params=asked)

    assert answer.status_code == 422
    assert "takes too long" in answer.text


async def test_a_subscription_ends_if_matching_new_series_takes_too_much_work(
    shared_server: str, shared_client: AsyncClient
) -> None:
    async with viewing(shared_server) as viewer:
        await viewer.subscribe(f'fresh{{long=~"{COSTLY}"}}', id="costly")
        others = await viewer.subscribe("fresh", id="others")

        fresh = series("fresh", labels={"long": f"{LONG}1"})
        assert (await push(shared_client, fresh)).status_code == 200

        told = await viewer.next("error")
        assert (told["id"], told["problem"]["code"]) == ("costly", "query_too_broad")
        await viewer.until(lambda: others.values() == [1.5])
