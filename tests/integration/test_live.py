"""What a viewer is sent: subscriptions, snapshots, updates, new series, complaints."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import execute
from database_proxy import Road, proxied
from httpx import AsyncClient
from serving_live import live_server
from stored import STALE, named, store
from viewing import Picture, Viewing, metric, now_ms, push, until, viewing
from websockets.exceptions import ConnectionClosed

from infrawatch.live import viewer as viewer_module
from infrawatch.live.initial_state import AT_ONCE, InitialState, InitialStateReader
from infrawatch.live.viewer import (
    CLOSE_BAD_FRAMES,
    CLOSE_NOT_ADMITTED,
    CLOSE_STUCK,
    MAX_BAD_FRAMES,
    MAX_SUBSCRIPTIONS,
    Viewer,
)
from infrawatch.store.database import Database


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[str]:
    async with live_server(database_url) as url:
        yield url


@pytest.fixture
async def viewer(server: str) -> AsyncIterator[Viewing]:
    async with viewing(server) as viewer:
        yield viewer


async def test_a_subscription_begins_with_its_series_and_their_last_samples(
    server: str, viewer: Viewing
) -> None:
    now = now_ms()
    await push(server, "m", [(now - 1000, 1), (now, 2)], instance="a")
    await push(server, "m", [(now, 3)], instance="b")
    await push(server, "other", [(now, 4)])

    picture = await viewer.subscribe("m")

    assert [frame["type"] for frame in viewer.frames] == ["subscribed", "snapshot"]
    assert sorted(picture.names.values()) == ["m{instance=a}", "m{instance=b}"]
    assert picture.values() == [2, 3]


async def test_every_commit_is_an_update(server: str, viewer: Viewing) -> None:
    now = now_ms()
    await push(server, "m", [(now, 0)])
    picture = await viewer.subscribe('m{instance=""}')
    for number in range(1, 6):
        await push(server, "m", [(now + number, number)])
        update = await viewer.next()
        assert update["type"] == "update"
        assert list(update["samples"].values()) == [[[now + number, number]]]
        assert "coalesced" not in update or update["coalesced"] is None

    assert picture.values() == [0, 1, 2, 3, 4, 5]
    assert picture.gaps == []


async def test_since_determines_where_the_snapshot_begins(server: str, viewer: Viewing) -> None:
    now = now_ms()
    await push(server, "m", [(now - minutes * 60_000, minutes) for minutes in (30, 20, 10, 0)])
    assert (await viewer.subscribe("m", since="-25m")).values() == [20, 10, 0]
    assert (await viewer.subscribe("m", id="none")).values() == [0]


async def test_a_later_arrival_replaces_the_value_of_its_time(server: str, viewer: Viewing) -> None:
    now = now_ms()
    await push(server, "m", [(now, 1)])
    picture = await viewer.subscribe("m")
    await push(server, "m", [(now, 2)])
    await viewer.next("update")
    assert picture.values() == [2]


async def test_series_that_begin_to_match_join(server: str, viewer: Viewing) -> None:
    now = now_ms()
    picture = await viewer.subscribe('m{instance=~"web-.*"}')
    assert picture.names == {}

    await push(server, "m", [(now, 1)], instance="web-1")
    assert (await viewer.next())["type"] == "series"
    assert (await viewer.next())["type"] == "update"
    await push(server, "m", [(now, 2)], instance="db-1")
    await push(server, "m", [(now, 3)], instance="web-2")
    await viewer.until_there_are(picture, 2)

    assert sorted(picture.names.values()) == ["m{instance=web-1}", "m{instance=web-2}"]
    assert picture.values() == [1, 3]


async def test_values_that_json_cannot_express_are_text_or_null(
    viewer: Viewing, database: Database
) -> None:
    now = now_ms()
    picture = await viewer.subscribe("m")
    values = [float("nan"), float("inf"), float("-inf"), STALE, -0.0]
    await store(
        database, {named("m"): [((now + n) * 1000, value) for n, value in enumerate(values)]}
    )
    await viewer.until(lambda: len(picture.samples) == len(values))
    assert [str(value) for value in picture.values()] == ["NaN", "+Inf", "-Inf", "None", "-0.0"]


async def test_every_ms_sends_less_often_and_loses_nothing(server: str, viewer: Viewing) -> None:
    now = now_ms()
    picture = await viewer.subscribe("m", every_ms=400)
    for number in range(20):
        await push(server, "m", [(now + number, number)])
    await viewer.until_there_are(picture, 20)

    assert picture.values() == list(range(20))
    updates = [frame for frame in viewer.frames if frame["type"] == "update"]
    assert len(updates) < 20
    assert picture.gaps == []


async def test_subscriptions_of_one_connection_are_apart(server: str, viewer: Viewing) -> None:
    now = now_ms()
    first, second = await viewer.subscribe("m", id="1"), await viewer.subscribe("n", id="2")
    await push(server, "m", [(now, 1)])
    await push(server, "n", [(now, 2)])
    await viewer.until(lambda: first.samples and second.samples)
    await viewer.send({"type": "unsubscribe", "id": "1"})
    await push(server, "m", [(now + 1, 3)])
    await push(server, "n", [(now + 1, 4)])
    await viewer.until_there_are(second, 2)

    assert (first.values(), second.values()) == ([1], [2, 4])
    assert (await viewer.subscribe("m", id="1")).values() == [3]


async def test_a_heartbeat_has_the_cursor_up_to_which_all_was_sent(
    server: str, viewer: Viewing
) -> None:
    now = now_ms()
    picture = await viewer.subscribe("m")
    cursor = await push(server, "n", [(now, 1)])
    heartbeat = await viewer.next("heartbeat")
    assert picture.cursor == heartbeat["cursor"]
    assert heartbeat["age_ms"] >= 0
    async with AsyncClient(base_url=server, timeout=30) as client:
        answer = await client.get("/v1/latest", params={"match": "n", "wait_for": cursor})
        assert answer.json()["series"]

    again = Viewing(viewer.connection)
    resumed = await again.subscribe("n", id="n", resume=heartbeat["cursor"])
    assert resumed.values() == []
    assert resumed.gaps == []


async def test_heartbeats_continue_while_a_snapshot_waits_for_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_module, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(viewer_module, "CHECK_S", 0.1)
    async with (
        proxied(database_url) as road,
        live_server(road.url) as url,
        viewing(url) as viewer,
        viewing(url) as another,
    ):
        road.close()
        picture = viewer.pictures["a"] = Picture()
        await viewer.send({"type": "subscribe", "id": "a", "match": "m"})
        beats = [await viewer.next("heartbeat", "snapshot") for _ in range(3)]
        assert [beat.get("cursor", "snapshot") for beat in beats] == [None] * 3
        assert beats[0]["age_ms"] < beats[2]["age_ms"] < 60_000

        road.road = Road.OPEN
        await viewer.until(lambda: picture.cursor is not None)
        assert (await another.subscribe("m", resume=picture.cursor)).gaps == []


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"type": "subscribe", "id": "a"}, "match"),
        ({"type": "subscribe", "id": "a", "match": "m", "every_ms": 99}, "every_ms"),
        ({"type": "subscribe", "id": "a", "match": "m", "every_ms": 10_001}, "every_ms"),
        ({"type": "subscribe", "id": "a", "match": "m", "every_ms": True}, "every_ms"),
        ({"type": "subscribe", "id": "a", "match": "m", "delivery": "some"}, "delivery"),
        ({"type": "subscribe", "id": "", "match": "m"}, "id"),
        ({"type": "subscribe", "id": "a", "match": "m", "colour": "red"}, "colour"),
        ({"type": "subscribe", "id": "a", "match": "rate(m[5m])"}, "selector"),
        ({"type": "subscribe", "id": "a", "match": "m", "resume": "nonsense"}, "cursor"),
        ({"type": "subscribe", "id": "a", "match": "m", "since": "yesterday"}, "time"),
        ({"type": "sing"}, "type"),
        ([], "the frame"),
    ],
)
async def test_a_bad_frame_is_answered_with_the_reason(
    server: str, viewer: Viewing, frame: Any, field: str
) -> None:
    now = now_ms()
    await viewer.send(frame)
    answer = await viewer.next()
    assert answer["type"] == "error"
    assert field in answer["problem"]["detail"]
    assert answer["problem"]["status"] == 422
    assert answer["id"] == (frame.get("id") or None if isinstance(frame, dict) else None)

    await push(server, "m", [(now, 1)])  # and the connection goes on
    assert (await viewer.subscribe("m")).values() == [1]


@pytest.mark.parametrize("garbage", [b"\x00\x01", "{", "\ud83d\ude00", '{"type": 1}', "9" * 70_000])
async def test_one_bad_frame_after_the_other_ends_the_connection(
    viewer: Viewing, garbage: str | bytes
) -> None:
    if isinstance(garbage, str):
        garbage = garbage.encode("utf-16", "surrogatepass").decode("utf-16")
    for _ in range(MAX_BAD_FRAMES):
        await viewer.connection.send(garbage)
        assert (await viewer.next())["problem"]["code"] == "invalid_frame"
    with pytest.raises(ConnectionClosed) as closed:
        await viewer.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == CLOSE_BAD_FRAMES


async def test_a_frame_too_large_for_memory_is_not_taken(viewer: Viewing) -> None:
    await viewer.connection.send("9" * 2_000_000)
    with pytest.raises(ConnectionClosed) as closed:
        await viewer.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_the_number_of_subscriptions_per_connection_is_limited(viewer: Viewing) -> None:
    for number in range(MAX_SUBSCRIPTIONS):
        await viewer.subscribe("m", id=str(number))
    await viewer.send({"type": "subscribe", "id": "more", "match": "m"})
    refused = await viewer.next("error")
    assert refused["id"] == "more"
    assert str(MAX_SUBSCRIPTIONS) in refused["problem"]["detail"]


async def test_a_connection_that_floods_delays_no_other(
    server: str, viewer: Viewing, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = InitialStateReader._read
    may_go_on = asyncio.Event()

    async def slow(*of: Any) -> InitialState:
        if "flood" in str(of):
            await may_go_on.wait()
        return await read(*of)

    monkeypatch.setattr(InitialStateReader, "_read", slow)
    for number in range(2 * AT_ONCE):
        await viewer.send({"type": "subscribe", "id": str(number), "match": "flood"})
    async with viewing(server) as other:
        assert (await other.subscribe("m")).values() == []
    may_go_on.set()
    for _ in range(2 * AT_ONCE):
        await viewer.next("snapshot")


async def test_the_next_snapshot_is_read_when_the_one_before_was_taken(
    server: str, viewer: Viewing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a viewer that takes nothing has a hundred of them in memory."""
    read, send = InitialStateReader._read, Viewer._send
    reads: list[str] = []
    may_go_on = asyncio.Event()

    async def noting(*of: Any) -> InitialState:
        reads.append(str(of))
        return await read(*of)

    async def stuck(to: Viewer, frame: str) -> None:
        if '"big' in frame:
            await may_go_on.wait()
        await send(to, frame)

    monkeypatch.setattr(InitialStateReader, "_read", noting)
    monkeypatch.setattr(Viewer, "_send", stuck)
    for number in range(5):
        await viewer.send({"type": "subscribe", "id": f"big{number}", "match": "big"})
    async with viewing(server) as other:
        for number in range(5):
            await other.subscribe("m", id=str(number))
    assert len([one for one in reads if "big" in one]) == 1
    may_go_on.set()
    for _ in range(5):
        await viewer.next("snapshot")


async def test_an_id_is_taken_until_it_is_given_back(viewer: Viewing) -> None:
    await viewer.subscribe("m")
    await viewer.send({"type": "subscribe", "id": "a", "match": "n"})
    assert "unsubscribe first" in (await viewer.next("error"))["problem"]["detail"]


async def test_too_many_series_are_refused_for_that_subscription_alone(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url, read_max_series=2) as url, viewing(url) as viewer:
        for instance in ("a", "b", "c"):
            await push(url, "m", [(now, 1)], instance=instance)
        await viewer.send({"type": "subscribe", "id": "all", "match": "m"})
        refused = await viewer.next("error")
        assert (refused["id"], refused["problem"]["code"]) == ("all", "query_too_broad")
        assert (await viewer.subscribe('m{instance="a"}')).values() == [1]


async def test_many_viewers_of_one_selector_get_the_same(server: str) -> None:
    now = now_ms()
    async with viewing(server) as one, viewing(server) as two, viewing(server) as three:
        viewers = (one, two, three)
        pictures = [await viewer.subscribe("m") for viewer in viewers]
        await asyncio.gather(*(push(server, "m", [(now + n, n)]) for n in range(30)))
        for viewer, picture in zip(viewers, pictures, strict=True):
            await viewer.until_there_are(picture, 30)
            assert picture.values() == list(range(30))


async def test_samples_committed_while_subscribing_are_delivered(server: str) -> None:
    """Whatever falls between the subscription and its snapshot, or into both."""
    now = now_ms()

    async def view(number: int) -> list[float]:
        async with viewing(server) as viewer:
            await moments[number].wait()
            picture = await viewer.subscribe("m", since="-1h")
            await viewer.until_there_are(picture, series)
            assert picture.gaps == []
            return sorted(picture.values())

    series = 60
    moments = [asyncio.Event() for _ in range(10)]
    async with asyncio.TaskGroup() as tasks:
        views = [tasks.create_task(view(number)) for number in range(len(moments))]
        for number in range(series):  # each a series that nobody has seen before
            tasks.create_task(push(server, "m", [(now, number)], n=str(number)))
            moments[number * len(moments) // series].set()
            await asyncio.sleep(0)
    for seen in views:
        assert await seen == list(range(series))


async def test_data_of_another_tenant_is_never_seen(
    server: str, viewer: Viewing, database: Database, database_url: str
) -> None:
    now = now_ms()
    execute(database_url, "INSERT INTO tenants (id, name) VALUES (2, 'other')")
    theirs = {named("m", instance="a"): [(now * 1000, 1.0)], named("m"): [(now * 1000, 2.0)]}
    await push(server, "m", [(now, 3)], instance="a")
    await store(database, theirs, tenant_id=2)
    picture = await viewer.subscribe("m", since="-1h")
    await store(database, theirs, tenant_id=2)
    await push(server, "m", [(now + 1, 4)], instance="a")
    await viewer.until_there_are(picture, 2)
    assert picture.values() == [3, 4]
    assert list(picture.names.values()) == ["m{instance=a}"]


async def test_when_all_viewers_have_left_nothing_is_kept(server: str) -> None:
    async def subscriptions() -> float:
        return await metric(server, "infrawatch_live_subscriptions")

    async def is_empty() -> bool:
        return await subscriptions() == 0

    async with viewing(server) as viewer:
        await viewer.subscribe("m")
        assert await subscriptions() == 1
    await until(is_empty)


async def test_the_protocol_is_described_for_programs_and_for_people(server: str) -> None:
    async with AsyncClient(base_url=server, timeout=30) as client:
        document = (await client.get("/asyncapi.json")).json()
        page = (await client.get("/docs/live")).text
        assert "(/docs/live)" in (await client.get("/openapi.json")).json()["info"]["description"]
    assert document["asyncapi"] == "3.0.0"
    messages = document["channels"]["live"]["messages"]
    for name, message in messages.items():
        assert message == {"$ref": f"#/components/messages/{name}"}
        payload = document["components"]["messages"][name]["payload"]["$ref"]
        assert payload.rpartition("/")[2] in document["components"]["schemas"]
        assert f"<h2 id={name}>" in page
    for code in (1012, CLOSE_BAD_FRAMES, CLOSE_NOT_ADMITTED, CLOSE_STUCK):
        assert str(code) in document["info"]["description"]
