"""The sender, against a server that fails in every way a server can."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from scripted_server import ScriptedServer, count_samples, eventually, problem, scripted_server
from spooling import closed_spools  # noqa: F401  # used by every test
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from infrawatch.agent import send
from infrawatch.agent.batches import Body, Encoder
from infrawatch.agent.readings import Reading, gauge
from infrawatch.agent.send import Sender
from infrawatch.agent.spool import DROPPED, Loss, Spool
from infrawatch.errors import ServerUnavailable

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(send, "_MAX_PAUSE_S", 0.05)


@pytest.fixture
def spool(tmp_path: Path) -> Generator[Spool, None, None]:
    spool = Spool.open(tmp_path / "spool", limit_bytes=MIB)
    yield spool
    spool.close()


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    async with scripted_server() as server:
        yield server


async def test_spooled_batches_arrive_and_leave_the_spool(
    spool: Spool, server: ScriptedServer
) -> None:
    async with sending(spool, server.url) as sender:
        await spool_and_wake(spool, sender, batch(1))
        await eventually(lambda: spool.usage.batches == 0)

    [series] = server.accepted[0]["series"]
    assert series["metric"] == "m0"
    assert series["labels"] == {"instance": "a"}
    assert series["samples"] == [[1, 1.0]]
    assert "content-length" in server.requests[0].headers
    assert server.requests[0].query_params["partial"] == "true"
    assert sender.attempts["accepted"] == 1


async def test_a_backlog_is_merged_and_the_newest_batch_goes_first(
    spool: Spool, server: ScriptedServer
) -> None:
    spool.add(batch(at) for at in range(1, 201))
    async with sending(spool, server.url):
        await eventually(lambda: spool.usage.batches == 0)

    arrived = [series["samples"] for request in server.accepted for series in request["series"]]
    assert arrived[0] == [[200, 200.0]]
    assert all(samples[-1][0] >= 195 for samples in arrived[:2]), "live updates are never behind"
    assert sorted(at for samples in arrived for at, _ in samples) == list(range(1, 201))
    assert len(server.batches) < 10


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_batch_is_sent_again_when_the_server_says_later(
    spool: Spool, server: ScriptedServer, status: int
) -> None:
    server.answers = [problem(status), problem(status)]
    spool.add([batch(1)])
    async with sending(spool, server.url) as sender:
        await eventually(lambda: spool.usage.batches == 0)

    assert len(server.batches) == 3
    assert len(server.accepted) == 1
    assert sender.attempts["unavailable"] == 2
    assert not spool.lost_samples


@pytest.mark.parametrize("status", [400, 409, 410, 415, 422])
async def test_a_batch_that_is_refused_for_good_is_never_sent_again(
    spool: Spool, server: ScriptedServer, status: int
) -> None:
    server.answers = [problem(status, code="no_way")]
    spool.add([batch(1, series=3)])
    async with sending(spool, server.url) as sender:
        await eventually(lambda: spool.usage.batches == 0)
        await spool_and_wake(spool, sender, batch(2))
        await eventually(lambda: spool.usage.batches == 0)

    assert [count_samples(one) for one in server.batches] == [3, 1]
    assert spool.lost_samples[Loss("refused", "no_way")] == 3


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<h1>default backend - 404</h1>", 404),
        HTMLResponse("<h1>The plain HTTP request was sent to HTTPS port</h1>", 400),
        JSONResponse({"message": "Unprocessable"}, 422),
        problem(404, code="not_found"),
        problem(405, code="method_not_allowed"),
    ],
)
async def test_a_refusal_by_a_proxy_or_about_the_url_loses_nothing(
    spool: Spool, server: ScriptedServer, answer: Response
) -> None:
    server.answers = [answer, answer]
    spool.add([batch(1)])
    async with sending(spool, server.url) as sender:
        await eventually(lambda: spool.usage.batches == 0)

    assert len(server.accepted) == 1
    assert sender.attempts["unavailable"] == 2
    assert not spool.lost_samples


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_loses_nothing_and_is_read_again(
    spool: Spool, server: ScriptedServer, tmp_path: Path, status: int
) -> None:
    server.rule = lambda request, _: (
        None if request.headers.get("authorization") == "Bearer iw_new" else problem(status)
    )
    key_file = tmp_path / "key"
    key_file.write_text("iw_old\n")
    spool.add([batch(1)])
    async with sending(spool, server.url, key_file) as sender:
        await eventually(lambda: sender.attempts["forbidden"] >= 2)
        key_file.unlink()
        await asyncio.to_thread(spool.add, [batch(2)])
        key_file.write_text("iw_new\n")
        await eventually(lambda: spool.usage.batches == 0)

    assert sum(map(count_samples, server.accepted)) == 2
    assert not spool.lost_samples


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "schlüssel"])
async def test_a_key_file_without_a_key_loses_nothing(
    spool: Spool, server: ScriptedServer, tmp_path: Path, text: str
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(text)
    spool.add([batch(1)])
    async with sending(spool, server.url, key_file):
        key_file.write_text("iw_good")
        await eventually(lambda: spool.usage.batches == 0)

    assert server.requests[0].headers["authorization"] == "Bearer iw_good"


async def test_a_batch_that_is_too_large_is_sent_in_parts(
    spool: Spool, server: ScriptedServer
) -> None:
    server.rule = lambda _, sent: problem(413) if len(sent["series"]) > 2 else None
    spool.add([batch(1, series=9)])
    async with sending(spool, server.url):
        await eventually(lambda: spool.usage.batches == 0)

    arrived = {series["metric"] for one in server.accepted for series in one["series"]}
    assert arrived == {f"m{number}" for number in range(9)}
    assert not spool.lost_samples


async def test_merged_batches_stop_growing_at_413(spool: Spool, server: ScriptedServer) -> None:
    server.rule = lambda _, sent: problem(413) if count_samples(sent) > 10 else None
    spool.add(batch(at) for at in range(1, 101))
    async with sending(spool, server.url) as sender:
        await eventually(lambda: spool.usage.batches == 0)

    assert sum(map(count_samples, server.accepted)) == 100
    assert sender.attempts["refused"] <= 6
    assert not spool.lost_samples


async def test_a_single_series_that_is_too_large_is_refused(
    spool: Spool, server: ScriptedServer
) -> None:
    server.rule = lambda *_: problem(413, code="body_too_large")
    spool.add([batch(1)])
    async with sending(spool, server.url):
        await eventually(lambda: spool.usage.batches == 0)

    assert spool.lost_samples == {Loss("refused", "body_too_large"): 1}


async def test_a_bad_batch_does_not_fail_other_batches(
    spool: Spool, server: ScriptedServer
) -> None:
    server.rule = lambda _, sent: (
        problem(422, code="bad")
        if any(time == 13 for series in sent["series"] for time, _ in series["samples"])
        else None
    )
    spool.add(batch(at) for at in range(1, 31))
    async with sending(spool, server.url):
        await eventually(lambda: spool.usage.batches == 0)

    assert sum(map(count_samples, server.accepted)) == 29
    assert spool.lost_samples == {Loss("refused", "bad"): 1}


async def test_refused_samples_cost_only_themselves_and_are_counted_by_code(
    spool: Spool, server: ScriptedServer
) -> None:
    errors = [
        {"pointer": "/series/0/samples/0/0", "code": "too_old", "detail": "retention is 15d"},
        {"pointer": "/series/1/metric", "code": "bad_name", "detail": ""},
        {"pointer": "/series/1/labels/x", "code": "bad_label", "detail": ""},
    ]
    receipt = {"accepted": 6, "rejected": 3, "cursor": None, "errors": errors}
    server.answers = [JSONResponse(receipt, 207)]
    spool.add([batch(1, series=9)])
    async with sending(spool, server.url) as sender:
        await eventually(lambda: spool.usage.batches == 0)

    assert sender.attempts["partial"] == 1
    assert spool.lost_samples == {
        Loss("refused", "too_old"): 1,
        Loss("refused", "bad_name"): 1,
        Loss("refused", "unlisted"): 1,
    }


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<h1>It works!</h1>"),
        JSONResponse({"ok": True}),
        Response(status_code=204),
        RedirectResponse("https://metrics.example.org/v1/samples"),
    ],
)
async def test_only_a_receipt_is_an_acknowledgement(
    spool: Spool, server: ScriptedServer, answer: Response
) -> None:
    server.answers = [answer]
    spool.add([batch(1)])
    async with sending(spool, server.url):
        await eventually(lambda: spool.usage.batches == 0)

    assert len(server.batches) == 2
    assert len(server.accepted) == 1


async def test_an_outage_of_the_server_loses_nothing(spool: Spool) -> None:
    async with scripted_server() as gone:
        port = int(gone.url.rpartition(":")[2])
    async with sending(spool, gone.url) as sender:
        for at in range(1, 11):
            await spool_and_wake(spool, sender, batch(at))
        await eventually(lambda: sender.attempts["unavailable"] >= 3)
        async with scripted_server(port) as back:
            await eventually(lambda: spool.usage.batches == 0)

    assert sum(map(count_samples, back.accepted)) == 10
    assert spool.lost_samples[DROPPED] == 0


async def test_a_connection_that_breaks_before_the_answer_loses_nothing(
    spool: Spool, server: ScriptedServer
) -> None:
    broken = 0

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        await reader.read(100)
        writer.close()
        broken += 1

    spool.add([batch(1)])
    breaking = await asyncio.start_server(break_off, "127.0.0.1", 0)
    port = breaking.sockets[0].getsockname()[1]
    async with breaking, sending(spool, f"http://127.0.0.1:{port}"):
        await eventually(lambda: broken >= 2)
    assert spool.usage.batches == 1
    async with sending(spool, server.url):
        await eventually(lambda: spool.usage.batches == 0)


def test_pauses_grow_to_a_minute_and_are_spread_at_random(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr(send, "_MAX_PAUSE_S", 60.0)
    away = ServerUnavailable("away")
    runs = [Sender(spool, url="http://x", key_file=None) for _ in range(200)]
    pauses = [[sender._next_pause_s(away) for _ in range(12)] for sender in runs]

    for number, ceiling_s in enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]):
        nth = [one[number] for one in pauses]
        assert all(0 <= pause_s <= ceiling_s for pause_s in nth)
        assert max(nth) > ceiling_s * 0.9
        assert min(nth) < ceiling_s * 0.1


def test_no_pause_is_shorter_than_the_server_asked_for(spool: Spool) -> None:
    sender = Sender(spool, url="http://x", key_file=None)
    asked = ServerUnavailable("later", retry_after=timedelta(seconds=90))
    assert 90 <= sender._next_pause_s(asked) <= 91


@asynccontextmanager
async def sending(
    spool: Spool, url: str, key_file: Path | None = None
) -> AsyncGenerator[Sender, None]:
    sender = Sender(spool, url=url, key_file=key_file)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sender.run())
        yield sender
        task.cancel()


async def spool_and_wake(spool: Spool, sender: Sender, body: Body) -> None:
    await asyncio.to_thread(spool.add, [body])
    sender.wake()


def batch(at: int, *, series: int = 1) -> Body:
    readings = [Reading(gauge(f"m{number}", ""), at) for number in range(series)]
    [body] = Encoder({"instance": "a"}).encode(readings, time_ms=at)
    return body
