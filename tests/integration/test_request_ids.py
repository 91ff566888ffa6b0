"""A request's id is in its answer, in the problem and in the log."""

import re

import pytest
import structlog
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from pushing import push, series
from viewing import viewing

from infrawatch import problems
from infrawatch.access.requests.request_ids import RequestIds

OURS = re.compile(r"[0-9a-f]{16}")

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_answer_has_its_own_id(shared_client: AsyncClient) -> None:
    answers = [await push(shared_client, series("m")) for _ in range(3)]
    answers.append(await shared_client.get("/nowhere"))

    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 4
    assert all(OURS.fullmatch(one) for one in ids)


async def test_an_id_that_came_with_the_request_is_kept(shared_client: AsyncClient) -> None:
    for sent in ("a", "req-7/3:b_c.d~e+f=g@h", "x" * 128):
        answer = await shared_client.get("/livez", headers={"X-Request-Id": sent})
        assert answer.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize("sent", [b"", b"a b", b"a\tb", b"\xff", b"x" * 129, b'{"a":1}'])
async def test_an_id_that_could_break_a_log_is_replaced(
    shared_client: AsyncClient, sent: bytes
) -> None:
    answer = await shared_client.get("/livez", headers=[(b"x-request-id", sent)])
    assert OURS.fullmatch(answer.headers["x-request-id"])


async def test_a_problem_has_the_request_id(shared_client: AsyncClient) -> None:
    for answer in (
        await shared_client.get("/v1/nothing"),
        await shared_client.get("/v1/latest"),
        await push(shared_client, 1),
    ):
        assert answer.status_code >= 400
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_viewer_gets_an_id_too(shared_server: str) -> None:
    async with viewing(shared_server) as viewer:
        assert viewer.connection.response is not None
        assert OURS.fullmatch(viewer.connection.response.headers["x-request-id"])


async def test_an_internal_error_has_the_same_id_in_the_log_and_the_answer() -> None:
    app = FastAPI()

    @app.get("/")
    async def fail() -> None:
        raise RuntimeError

    problems.install(app)
    app.add_middleware(RequestIds)
    processors = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=processors) as logged:
        transport = ASGITransport(app, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://here") as client:
            answer = await client.get("/", headers={"X-Request-Id": "mine"})

    assert (answer.status_code, answer.json()["request_id"]) == (500, "mine")
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert [(one["event"], one["request_id"]) for one in logged] == [("unexpected_error", "mine")]
