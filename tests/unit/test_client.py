"""The client, against a server with scripted responses."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from scripted_server import ScriptedServer, problem, scripted_server

from infrawatch.client.connection import Client
from infrawatch.client.series import Sample, Series
from infrawatch.client.url import public_url
from infrawatch.errors import InvalidInput, RequestRefused, ServerUnavailable

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOON_US = 1_795_176_000_000_000


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    async with scripted_server() as server:
        yield server


async def test_a_push_keeps_times_to_the_microsecond(server: ScriptedServer) -> None:
    series = Series("t_celsius", {"room": "a"}, [Sample(NOON, 21.5), (NOON, 22)], unit="celsius")
    async with Client(server.url, key="iw_key") as client:
        receipt = await client.push([series])

    assert receipt.accepted == 2
    assert receipt.cursor == "c"
    assert server.batches == [
        {
            "series": [
                {
                    "metric": "t_celsius",
                    "labels": {"room": "a"},
                    "samples": [[NOON_US, 21.5], [NOON_US, 22]],
                    "unit": "celsius",
                }
            ]
        }
    ]
    assert dict(server.requests[0].query_params) == {"precision": "us", "partial": "false"}
    assert server.requests[0].headers["authorization"] == "Bearer iw_key"


async def test_a_refusal_repeats_the_detail_of_the_server(server: ScriptedServer) -> None:
    server.answers = [problem(422, code="batch_rejected")]
    async with Client(server.url) as client:
        with pytest.raises(RequestRefused, match="told to say 422") as refused:
            await client.push([])

    assert refused.value.answered_status == 422
    assert refused.value.answered_code == "batch_rejected"


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("7", 7), (" 0 ", 0), ("soon", None), ("-5", None), ("", None), ("9" * 40, None)],
)
async def test_retry_after_may_be_seconds(
    server: ScriptedServer, text: str, expected_s: int | None
) -> None:
    server.answers = [problem(503, Retry_After=text)]
    expected = None if expected_s is None else timedelta(seconds=expected_s)
    assert await retry_after(server) == expected


async def test_retry_after_may_be_a_date(server: ScriptedServer) -> None:
    in_a_minute = datetime.now(UTC) + timedelta(seconds=60)
    server.answers = [problem(429, Retry_After=format_datetime(in_a_minute, usegmt=True))]
    pause = await retry_after(server)
    assert pause is not None
    assert timedelta(seconds=50) < pause <= timedelta(seconds=60)

    server.answers = [problem(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]
    assert await retry_after(server) == timedelta()


async def test_a_server_that_is_not_there_is_unavailable_and_named_without_its_password() -> None:
    async with scripted_server() as gone:
        url = gone.url.replace("http://", "http://me:secret@")
    async with Client(url) as client:
        with pytest.raises(ServerUnavailable, match=gone.url) as unavailable:
            await client.push([])
    assert "secret" not in str(unavailable.value)


async def test_no_request_takes_longer_than_its_timeout_however_it_drips() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        async with Client(url, timeout=timedelta(milliseconds=100)) as client:
            with pytest.raises(ServerUnavailable, match=r"within 0\.1 s"):
                await client.push([])


async def test_a_server_on_loopback_is_not_asked_through_a_proxy(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with Client(server.url) as client:
        assert (await client.push([])).accepted == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_values_that_json_does_not_know_are_not_sent(
    server: ScriptedServer, value: float
) -> None:
    async with Client(server.url) as client:
        with pytest.raises(InvalidInput, match="cannot be sent"):
            await client.push([Series("m", {}, [Sample(NOON, value)])])
    assert not server.batches


async def test_a_time_without_a_zone_is_not_sent(server: ScriptedServer) -> None:
    async with Client(server.url) as client:
        with pytest.raises(InvalidInput, match="cannot be sent"):
            await client.push([Series("m", {}, [(NOON.replace(tzinfo=None), 1)])])
    assert not server.batches


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "http://", "http://[::1"])
def test_an_invalid_url_is_reported_as_such(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL"):
        Client(url)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "schlüssel"])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        Client("http://localhost", key=key)


def test_a_url_is_shown_without_its_password() -> None:
    assert public_url("https://me:secret@example.org/iw") == "https://example.org/iw"


async def retry_after(server: ScriptedServer) -> timedelta | None:
    async with Client(server.url) as client:
        with pytest.raises(ServerUnavailable) as unavailable:
            await client.push([])
    return unavailable.value.retry_after
