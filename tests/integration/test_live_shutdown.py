"""Viewers when the server stops, and those who follow by server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from time import monotonic

import pytest
from httpx import AsyncClient, Response
from pydantic import SecretStr
from serving_live import live_server
from viewing import DEADLINE_S, Frame, Picture, check, now_ms, push, viewing
from websockets.exceptions import ConnectionClosed

from infrawatch.app import create_app
from infrawatch.live.tail import Tail
from infrawatch.settings import Settings
from infrawatch.upkeep.scheduler import Scheduler


@asynccontextmanager
async def following(url: str, cursor: str | None = None) -> AsyncGenerator[Response, None]:
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    async with (
        AsyncClient(base_url=url, timeout=DEADLINE_S, verify=False) as client,
        client.stream("GET", "/v1/live/sse", params={"match": "m"}, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer


async def events(answer: Response) -> AsyncGenerator[Frame, None]:
    """The frames in a stream of events, as a browser's EventSource reads it."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
            continue
        frame = check(fields["data"])
        assert fields["event"] == frame["type"]
        assert fields.get("id") == frame.get("cursor")
        yield frame
        fields = {}


async def until(picture: Picture, answer: Response, number: int) -> None:
    """Follow until the picture has that many samples."""
    async with aclosing(events(answer)) as frames:
        async for frame in frames:
            picture.apply(frame)
            if len(picture.samples) >= number and "samples" in frame:
                return


async def test_a_stopping_server_closes_viewers_with_a_restart_code(database_url: str) -> None:
    async with AsyncExitStack() as server:
        url = await server.enter_async_context(live_server(database_url))
        async with viewing(url) as viewer:
            await viewer.subscribe("m")
            stopping = monotonic()
            await server.aclose()
            assert monotonic() - stopping < 5
            with pytest.raises(ConnectionClosed) as closed:
                await viewer.next("update")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_nothing_is_lost_by_a_stop_while_samples_come(database_url: str) -> None:
    now = now_ms()
    picture = Picture()
    sent: set[int] = set()

    async def send(url: str, numbers: range) -> None:
        for number in numbers:
            await push(url, "m", [(now + number, number)])
            sent.add(number)

    async with live_server(database_url) as other:
        async with live_server(database_url) as first, viewing(first) as viewer:
            picture = await viewer.subscribe("m", since="-1h")
            await send(first, range(10))
            await viewer.until(lambda: len(picture.samples) > 5)
            sending = asyncio.gather(send(other, range(10, 20)))
        await sending
        async with viewing(other) as viewer:
            again = await viewer.subscribe("m", resume=picture.cursor)
            assert again.gaps == []
            merged = picture.samples | again.samples
    assert {int(value or 0) for value in merged.values()} == sent == set(range(20))


async def test_events_carry_the_same_frames(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as url:
        await push(url, "m", [(now, 0)])
        async with following(url) as answer, aclosing(events(answer)) as frames:
            assert (await anext(frames))["type"] == "subscribed"
            assert list((await anext(frames))["samples"].values()) == [[[now, 0]]]
            await push(url, "m", [(now + 1, 1)])
            assert list((await anext(frames))["samples"].values()) == [[[now + 1, 1]]]
            assert (await anext(frames))["type"] == "heartbeat"


async def test_the_stream_resumes_after_the_last_event_id(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as url, live_server(database_url) as other:
        await push(url, "m", [(now, 0)])
        picture, again = Picture(), Picture()
        async with following(url) as answer:
            await until(picture, answer, 1)
        for number in range(1, 4):
            await push(url, "m", [(now + number, number)])
        async with following(other, picture.cursor) as answer:
            await until(again, answer, 3)
    assert (again.values(), again.snapshots, again.gaps) == ([1, 2, 3], 0, [])


async def test_events_end_at_once_when_the_server_stops(database_url: str) -> None:
    async with AsyncExitStack() as server:
        slow_drain = live_server(database_url, drain_deadline="30s")
        url = await server.enter_async_context(slow_drain)
        async with following(url) as answer:
            frames = events(answer)
            kinds = [(await anext(frames))["type"] for _ in range(2)]
            stopping = monotonic()
            await server.aclose()
            assert monotonic() - stopping < 5
            assert [frame async for frame in frames] == []
    assert kinds == ["subscribed", "snapshot"]


@pytest.mark.parametrize(
    ("params", "headers", "code"),
    [
        ({"match": "rate(m[5m])"}, {}, "invalid_selector"),
        ({"match": "m", "since": "soon"}, {}, "invalid_time"),
        ({"match": "m"}, {"Last-Event-ID": "x"}, "invalid_cursor"),
        ({}, {}, "invalid_input"),
    ],
)
async def test_an_invalid_request_gets_a_problem_instead_of_a_stream(
    database_url: str, params: dict[str, str], headers: dict[str, str], code: str
) -> None:
    async with live_server(database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.get("/v1/live/sse", params=params, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["code"] == code


async def test_a_start_that_is_broken_off_ends_though_a_task_loses_its_cancellation(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_tail: Tail) -> None:
        with suppress(asyncio.CancelledError):  # as a library may
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    monkeypatch.setattr(Tail, "run", run)
    monkeypatch.setattr(Scheduler, "runs", [])  # asyncpg is loud when it is told to stop connecting
    app = create_app(Settings(_env_file=None, database_url=SecretStr(database_url)))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    starting = asyncio.ensure_future(start())
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    starting.cancel()
    _, pending = await asyncio.wait({starting}, timeout=DEADLINE_S)
    assert not pending
