"""Who dawdles, or sends or connects too much, is cut off; others do not notice."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from httpx import AsyncClient
from pushing import batch, find_count, series
from serving_process import ServingProcess, serving_process
from slow_connections import HALVES, HEAD, Connection, connection, half_open, push_during
from websockets.asyncio.client import connect

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOWLORIS = 500
WITHIN_S = 20
MOST = 3
NOT_A_PROXY = "127.0.0.2"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HEALTHY = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shared_database_url: str) -> AsyncIterator[ServingProcess]:
    limits = {
        "HEADER_DEADLINE": "2s",
        "BODY_DEADLINE": "2s",
        "MAX_CONNECTIONS_PER_ADDRESS": str(MOST),
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "MAX_URL_BYTES": "2000",
        "MAX_HEADER_BYTES": "4000",
    }
    async with serving_process(shared_database_url, **limits) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: ServingProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


def read_problem(response: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    return int(head.split()[1]), json.loads(body)


async def test_half_open_connections_are_closed_while_others_are_served(
    server: ServingProcess, client: AsyncClient
) -> None:
    cut = 'infrawatch_connections_cut_total{reason="header_deadline"}'

    async with asyncio.timeout(WITHIN_S), half_open(server.url, SLOWLORIS) as connections:
        answers = asyncio.gather(*(one.rest() for one in connections))
        response, took = await push_during(client, answers)

    assert len(took) > 1
    assert await find_count(client, cut) >= SLOWLORIS / 2
    for half, answer in zip(HALVES, response[: len(HALVES)], strict=True):
        if half in ("half a body", "half a chunk"):
            status, problem = read_problem(answer)
            assert (status, problem["code"]) == (503, "deadline_exceeded")
        else:
            assert answer == b""


@pytest.mark.parametrize("together", [1, 20, 1_000])
async def test_a_body_is_put_together_of_its_pieces(server: ServingProcess, together: int) -> None:
    body = json.dumps(batch(series("pieces"))).encode()
    pieces = [b"1\r\n%c\r\n" % byte for byte in body] + [b"0\r\n\r\n"]

    async with connection(server.url, HEAD + b"Connection: close\r\n" + CHUNKED) as one:
        for first in range(0, len(pieces), together):
            one.writer.write(b"".join(pieces[first : first + together]))
            await one.writer.drain()

        assert (await one.rest()).startswith(b"HTTP/1.1 200 ")


async def test_a_slow_upload_that_goes_on_is_served(server: ServingProcess) -> None:
    body = json.dumps(batch(series("slow"))).encode().ljust(60_000)
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)

    async with (
        connection(server.url, head + body[:-2]) as slow,
        connection(server.url, head + body[:-60_000]) as stuck,
    ):
        response = await stuck.rest()  # by now both are later than the deadline
        slow.writer.write(body[-2:])
        answer = await slow.rest()

    assert read_problem(response)[0] == 503
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_newlines_do_not_keep_an_idle_connection(server: ServingProcess) -> None:
    async with connection(server.url, HEALTHY) as idle:
        assert b"200 OK" in await idle.reader.readuntil(b"}")
        idle.writer.write(b"\r\n")

        assert await idle.rest() == b""


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /livez?" + b"a" * 2_000, 414, "url_too_long"),
        (
            b"GET /livez?" + b"a" * 2_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            414,
            "url_too_long",
        ),
        (HEAD + b"Cookie: " + b"a" * 4_000, 431, "headers_too_large"),
        (HEAD + b"Cookie: " + b"a" * 4_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (HEAD + b"a: b\r\n" * 2_000, 431, "headers_too_large"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "not_http"),
        (b"GET\r\n\r\n", 400, "not_http"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not_http"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "not_http"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "not_http"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "not_http"),
        (HEAD + b"X: a\r\n b\0c\r\n\r\n", 400, "not_http"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "unknown_transfer_coding"),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n", 501, "unknown_transfer_coding"),
        (HEAD.replace(b"/1.1", b"/1.0") + CHUNKED, 400, "not_http"),
        (HEAD.replace(b"/1.1", b"/2.0") + b"\r\n", 505, "unknown_http_version"),
        (b"GET /livez\r\n\r\n", 505, "unknown_http_version"),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400, "not_http"),
        (HEAD + b"Host: localhost\r\n\r\n", 400, "not_http"),
        (HEAD.replace(b"localhost", b"localhost@evil.example") + b"\r\n", 400, "not_http"),
        (HEAD.replace(b"localhost", b"localhost/evil") + b"\r\n", 400, "not_http"),
        (HEAD.replace(b"localhost", b"[::1") + b"\r\n", 400, "not_http"),
        (HEAD.replace(b"localhost", b"[::1::]") + b"\r\n", 400, "not_http"),
        (HEAD.replace(b"localhost", b"localhost:65536") + b"\r\n", 400, "not_http"),
        (HEAD.replace(b"localhost", b"a" * 301) + b"\r\n", 400, "not_http"),
        (HEAD + UPGRADE + b"Host: localhost\r\n\r\n", 400, "not_http"),
        (HEAD + UPGRADE + b"Content-Length: 3\r\n\r\nabc", 400, "no_handshake"),
        (HEAD + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n", 400, "no_handshake"),
        (HEAD + UPGRADE + b"a: b\r\n" * 130 + b"\r\n", 400, "no_handshake"),
    ],
)
async def test_a_malformed_request_is_refused_with_a_problem(
    server: ServingProcess, sent: bytes, status: int, code: str
) -> None:
    async with asyncio.timeout(WITHIN_S), connection(server.url, sent) as one:
        answer = await one.rest()

    found, problem = read_problem(answer)
    assert (found, problem["code"]) == (status, code)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.0\r\nHost: localhost\r\n",
        b"GET /livez HTTP/1.1\r\nHost: LOCALHOST:8000\r\n",
        b"GET /livez HTTP/1.1\r\nHost: [::1]:80\r\n",
    ],
)
async def test_unusual_but_valid_heads_are_read(server: ServingProcess, head: bytes) -> None:
    async with connection(server.url, head + b"Connection: close\r\n\r\n") as one:
        assert b"200 OK" in await one.rest()


@pytest.mark.parametrize("is_cut", [False, True])
async def test_an_upgrade_offer_with_a_body_is_answered_in_http_1(
    server: ServingProcess, *, is_cut: bool
) -> None:
    """As Java's HttpClient does with what it sends first."""
    body = json.dumps(batch(series("offered"))).encode()
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    head = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(body)
    last = HEALTHY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    cut = len(head) - 20 if is_cut else len(head) + len(body)

    async with asyncio.timeout(WITHIN_S), connection(server.url, (head + body)[:cut]) as one:
        if is_cut:
            assert await is_let_in(server, "127.0.0.1")  # so what there is was read
        one.writer.write((head + body)[cut:] + head + body + last)
        response = await one.rest()

    assert response.count(b"HTTP/1.1 200 OK") == 3
    assert response.count(b'"accepted":1') == 2


async def test_a_trailer_is_no_header(server: ServingProcess) -> None:
    """Else it would say what a proxy in front, which looks at headers, does not let through."""
    rest = b"2\r\n{}\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"  # as a header it is refused here
    async with connection(server.url, HEAD + b"Connection: close\r\n" + CHUNKED + rest) as one:
        assert b" 422 " in (await one.rest()).partition(b"\r\n")[0]


async def test_connections_per_address_are_limited_except_for_trusted_proxies(
    server: ServingProcess,
) -> None:
    async with AsyncExitStack() as stack:

        async def opened(source: str) -> Connection:
            return await stack.enter_async_context(connection(server.url, HEALTHY, source))

        mine = [await opened(NOT_A_PROXY) for _ in range(MOST)]
        for one in mine:
            assert b"200 OK" in await one.reader.readuntil(b"}")
        status, problem = read_problem(await (await opened(NOT_A_PROXY)).rest())
        assert (status, problem["code"]) == (503, "overloaded")
        for _ in range(MOST + 1):
            proxied = await opened("127.0.0.1")
            assert b"200 OK" in await proxied.reader.readuntil(b"}")

        mine[0].writer.close()

        assert await is_let_in(server, NOT_A_PROXY)


async def test_websockets_count_until_they_are_closed(server: ServingProcess) -> None:
    url = server.url.replace("http", "ws") + "/v1/live"
    async with AsyncExitStack() as stack:
        for _ in range(MOST):
            await stack.enter_async_context(connect(url, local_addr=(NOT_A_PROXY, 0), proxy=None))
        async with connection(server.url, HEALTHY, NOT_A_PROXY) as one:
            assert read_problem(await one.rest())[0] == 503

    assert await is_let_in(server, NOT_A_PROXY)


async def test_frames_before_the_handshake_are_no_error_of_the_server(
    shared_database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    head = b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n"
    frames = (b"\x89\xfdabcd" + b"a" * 125) * 20_000
    async with serving_process(shared_database_url) as server, asyncio.timeout(60):
        async with connection(server.url, head + frames) as one:
            await one.rest()
        async with connect(server.url.replace("http", "ws") + "/v1/live", proxy=None) as viewer:
            await (await viewer.ping())
    assert "Traceback" not in capfd.readouterr().err


async def test_a_message_of_endless_fragments_ends_the_connection(server: ServingProcess) -> None:
    head = b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n"
    async with connection(server.url, head) as one, asyncio.timeout(60):
        await one.reader.readuntil(b"\r\n\r\n")
        one.writer.write(b"\x01\x80abcd" + b"\x00\x80abcd" * 2_000)  # empty, so of no size at all

        assert await one.rest() == b""


async def test_a_websocket_that_sends_much_is_read_slowly(
    server: ServingProcess,
) -> None:
    url = server.url.replace("http", "ws") + "/v1/live"
    async with connect(url, proxy=None) as viewer, asyncio.timeout(60):
        for _ in range(1_000):
            await viewer.pong(b"a" * 125)
        await viewer.send('{"type": "subscribe", "id": "a", "match": "up"}')

        assert '"subscribed"' in str(await viewer.recv())


async def is_let_in(server: ServingProcess, source: str) -> bool:
    """Whether an address gets a connection, as soon as the server knows of one that is gone."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            async with connection(server.url, HEALTHY, source) as one:
                if b"200 OK" in await one.reader.readline():
                    return True
