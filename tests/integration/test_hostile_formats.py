"""Bombs, truncations and lies about length, in every format and encoding: refused as documented."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import cramjam
import pytest
import pytest_asyncio
from bombs import BOMBS
from formats import ENCODE, FORMATS, Format
from httpx import AsyncClient, Response
from protobuf_wire import varint
from pushing import find_count
from serving_process import ServingProcess, serving_process
from slow_connections import connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024**2
GIB = 1024**3
GOOD = {200, 204}
ALL = [(known, encoding) for known in FORMATS for encoding in known.encodings]
EVERY_ENCODING = pytest.mark.parametrize(
    ("known", "encoding"), ALL, ids=[f"{known.name}, {encoding}" for known, encoding in ALL]
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shared_database_url: str) -> AsyncIterator[ServingProcess]:
    async with serving_process(shared_database_url, BODY_DEADLINE="1s") as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: ServingProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def documented(client: AsyncClient) -> dict[str, Any]:
    paths: dict[str, Any] = (await client.get("/openapi.json")).json()["paths"]
    return paths


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    snappy = varint(GIB) + b"\xfe\x01\x00" * 10_000  # copies of what was never there
    return {**{name: make() for name, make in BOMBS.items()}, "snappy": snappy}


async def send(client: AsyncClient, known: Format, body: bytes, encoding: str) -> Response:
    headers = {"content-type": known.content_type, "content-encoding": encoding}
    return await client.post(known.path, content=body, headers=headers)


def assert_refused(answer: Response, known: Format, documented: dict[str, Any]) -> None:
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert str(answer.status_code) in documented[known.path]["post"]["responses"]
    assert len(answer.content) < MIB


@EVERY_ENCODING
async def test_a_good_body_is_stored(client: AsyncClient, known: Format, encoding: str) -> None:
    answer = await send(client, known, ENCODE[encoding](known.make("web-1")), encoding)

    if known.path.endswith(("/write", "/write_lp")) and "Influx" in known.name:
        assert answer.status_code == 400  # for the text in it; the numbers are stored
    else:
        assert answer.status_code in GOOD, answer.text


@EVERY_ENCODING
async def test_a_body_that_breaks_off_is_refused(
    client: AsyncClient, documented: dict[str, Any], known: Format, encoding: str
) -> None:
    body = ENCODE[encoding](known.make("web-1"))

    for length in (len(body) - 1, len(body) // 2, 1):
        answer = await send(client, known, body[:length], encoding)
        if answer.status_code not in GOOD:  # a line fewer, or a time with a digit fewer
            assert_refused(answer, known, documented)


@pytest.mark.parametrize(
    ("known", "encoding"),
    [(known, encoding) for known, encoding in ALL if encoding != "identity"],
    ids=[f"{known.name}, {encoding}" for known, encoding in ALL if encoding != "identity"],
)
async def test_a_bomb_is_too_large(
    client: AsyncClient,
    documented: dict[str, Any],
    bombs: dict[str, bytes],
    known: Format,
    encoding: str,
) -> None:
    answer = await send(client, known, bombs[encoding], encoding)

    assert answer.status_code == 413
    assert_refused(answer, known, documented)


def lies(body: bytes, encoding: str) -> list[bytes]:
    """The same body under an encoding that says another length than it has."""
    encoded = ENCODE[encoding](body)
    match encoding:
        case "snappy":
            start = len(varint(len(body)))
            return [varint(size) + encoded[start:] for size in (0, 1, 10**6, 2**32 - 1, 2**63)]
        case "gzip":
            return [encoded[:-4] + struct.pack("<I", size) for size in (0, 1, 2**32 - 1)]
        case "zstd":  # a frame that says its size, in eight bytes (RFC 8878, 3.1.1.1)
            framed = b"\x28\xb5\x2f\xfd\xe0"
            raw = (1 | len(body) << 3).to_bytes(3, "little") + body
            return [framed + size.to_bytes(8, "little") + raw for size in (0, 1, GIB, 2**64 - 1)]
        case _:
            return []


@EVERY_ENCODING
async def test_lies_about_the_length_are_refused(
    client: AsyncClient, documented: dict[str, Any], known: Format, encoding: str
) -> None:
    for lie in lies(known.make("web-1"), encoding):
        assert_refused(await send(client, known, lie, encoding), known, documented)


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", [1, 2, 4, 5])
async def test_lengths_of_fields_that_are_beyond_the_body_are_refused(
    client: AsyncClient, documented: dict[str, Any], field: int, size: int
) -> None:
    body = varint(field << 3 | 2) + varint(size) + b"short"
    for known in FORMATS:
        if "protobuf" in known.content_type:
            encoding = known.encodings[0]
            answer = await send(client, known, ENCODE[encoding](body), encoding)
            assert_refused(answer, known, documented)


async def test_a_body_of_another_length_than_announced_is_refused(
    server: ServingProcess, client: AsyncClient
) -> None:
    answers = await asyncio.gather(
        *(lie_about_length(server, known, more) for known in FORMATS for more in (1, -9))
    )

    for answer in answers[::2]:  # what was announced never comes
        assert answer.startswith(b"HTTP/1.1 503 ")
    for answer in answers[1::2]:  # the rest is taken for the next request, which is none
        assert b"HTTP/1.1 400 " in answer
        assert b"HTTP/1.1 5" not in answer
    assert await find_count(client, 'infrawatch_connections_cut_total{reason="body_deadline"}')


async def lie_about_length(server: ServingProcess, known: Format, more: int) -> bytes:
    encoding = known.encodings[0]
    body = ENCODE[encoding](known.make("web-1"))
    head = (
        f"POST {known.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {known.content_type}\r\n"
        f"Content-Encoding: {encoding}\r\nContent-Length: {len(body) + more}\r\n\r\n"
    )
    async with connection(server.url, head.encode() + body) as one:
        return await one.rest()


async def test_no_hostile_request_caused_an_internal_error(client: AsyncClient) -> None:
    metrics = (await client.get("/metrics")).text

    assert 'status="204"' in metrics
    assert 'status="500"' not in metrics


async def test_a_snappy_block_is_not_taken_for_a_frame(client: AsyncClient) -> None:
    known = next(one for one in FORMATS if "snappy" in one.encodings)
    framed = bytes(cramjam.snappy.compress(known.make("web-1")))

    assert (await send(client, known, framed, "snappy")).status_code == 400
