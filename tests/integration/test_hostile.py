"""Malicious requests are answered as documented, and need hardly any memory."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from bombs import BOMBS, GIB
from httpx import AsyncClient, Response
from pushing import now_ms, push, push_lines, series
from serving_process import ServingProcess, serving_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024**2
JSON = "application/json"
LINES = "application/x-ndjson"
NOW = b"{now}"
"""Stands for the time, so that a body is wrong in one way only."""


class Hostile(NamedTuple):
    name: str
    body: bytes
    status: int
    content_type: str = JSON
    encoding: str = "identity"


def batch(**fields: str) -> bytes:
    """A batch of one series; its fields are JSON as it is written."""
    members = {"metric": '"up"', "labels": "{}", "samples": f"[[{NOW.decode()},1]]"} | fields
    text = ",".join(f'"{name}":{value}' for name, value in members.items())
    return f'{{"series":[{{{text}}}]}}'.encode("utf-8", "surrogatepass")


def value(text: str) -> bytes:
    return batch(samples=f"[[{NOW.decode()},{text}]]")


def time(text: str) -> bytes:
    return batch(samples=f"[[{text},1]]")


def label(text: str) -> bytes:
    return batch(labels=f'{{"a":"{text}"}}')


MANY = json.dumps(dict.fromkeys(map(str, range(100_000)), 0))
CORPUS = [
    Hostile("empty", b"", 400),
    Hostile("blank", b" \n\t ", 400),
    Hostile("no lines", b"\n\r\n\n", 400, LINES),
    Hostile("array", b"[]", 422),
    Hostile("null", b"null", 422),
    Hostile("string", b'"series"', 422),
    Hostile("number", b"1", 422),
    Hostile("no fields", b"{}", 422),
    Hostile("no series", b'{"series":[]}', 422),
    Hostile("series of nothing", b'{"series":[null,1,"",[],{}]}', 422),
    Hostile("NaN", value("NaN"), 422),
    Hostile("Infinity", value("Infinity"), 422),
    Hostile("-Infinity", value("-Infinity"), 422),
    Hostile("bare NaN", b"NaN", 422),
    Hostile("nan", value("nan"), 400),
    Hostile("1e400", value("1e400"), 422),
    Hostile("-1e400", value("-1e400"), 422),
    Hostile("1e-400 is zero", value("1e-400"), 200),
    Hostile("-0 is valid", value("-0"), 200),
    Hostile("-0.0 is valid", value("-0.0"), 200),
    Hostile("a number with leading zeros", value("01"), 400),
    Hostile("a hexadecimal number", value("0x10"), 400),
    Hostile("true", value("true"), 422),
    Hostile("text as a value", value('"1.5"'), 422),
    Hostile("2^63", time("9223372036854775808"), 422),
    Hostile("2^63 - 1", time("9223372036854775807"), 422),
    Hostile("-2^63", time("-9223372036854775808"), 422),
    Hostile("-2^63 - 1", time("-9223372036854775809"), 422),
    Hostile("2^64 as a value", value("18446744073709551616"), 200),
    Hostile("400 digits as a time", time("9" * 400), 422),
    Hostile("400 digits as a value", value("9" * 400), 422),
    Hostile("5,000 digits", value("9" * 5_000), 400),
    Hostile("a million digits", value("9" * MIB), 400),
    Hostile("a time with a fraction", time("{now}.5"), 422),
    Hostile("a time in scientific notation", time("1e12"), 422),
    Hostile("a lone high surrogate", label(r"\ud800"), 400),
    Hostile("a lone low surrogate", label(r"\udc00x"), 400),
    Hostile("surrogates the wrong way round", label(r"\udc00\ud800"), 400),
    Hostile("a surrogate in UTF-8", label("\ud800"), 400),
    Hostile("a pair of surrogates is valid", label(r"\ud83d\ude80"), 200),
    Hostile("NUL in a value", label(r"\u0000"), 422),
    Hostile("NUL in a name", batch(labels=r'{"a\u0000":"b"}'), 422),
    Hostile("NUL in a metric", batch(metric=r'"up\u0000"'), 422),
    Hostile("NUL in a help", batch(help=r'"\u0000"'), 422),
    Hostile("a raw NUL", label("\0"), 400),
    Hostile("NUL bytes", b"\0" * 1_000, 400),
    Hostile("a raw newline in text", label("\n"), 400),
    Hostile("invalid UTF-8", batch().replace(b"up", b"\xff\xfe"), 400),
    Hostile("overlong UTF-8", label("é").replace("é".encode(), b"\xc0\x80"), 400),
    Hostile("UTF-16", batch().decode().encode("utf-16"), 400),
    Hostile("a byte order mark", b"\xef\xbb\xbf" + batch(), 400),
    Hostile("a byte order mark in lines", b"\xef\xbb\xbf" + b'{"metric":"up"}', 422, LINES),
    Hostile("100,000 arrays in each other", b"[" * 100_000 + b"]" * 100_000, 400),
    Hostile("100,000 objects in each other", b'{"series":' * 100_000, 400),
    Hostile("deep where samples should be", batch(samples="[" * 100_000), 400),
    Hostile("deep lines", b"[" * 100_000, 422, LINES),
    Hostile("a comment", b"// no\n" + batch(), 400),
    Hostile("a comma too many", b'{"series":[],}', 400),
    Hostile("single quotes", batch().replace(b'"', b"'"), 400),
    Hostile("two documents", batch() * 2, 400),
    Hostile("cut off", batch()[:-3], 400),
    Hostile("duplicate keys", batch().replace(b'"up"', b'"9","metric":"up"'), 200),
    Hostile("duplicate series", b'{"series":[1],' + batch()[1:], 200),
    Hostile("duplicate series, wrong last", batch()[:-1] + b',"series":[{}]}', 422),
    Hostile("unknown fields", batch(tags="{}"), 422),
    Hostile("100,000 fields", MANY.encode(), 422),
    Hostile("100,000 fields of a series", batch(more=f"0,{MANY[1:-1]}"), 422),
    Hostile("a field of a megabyte", batch(**{"a" * MIB: "1"}), 422),
    Hostile("a label of a megabyte", batch(labels=json.dumps({"a" * MIB: "b"})), 422),
    Hostile("a value of a megabyte", batch(labels=json.dumps({"a": "b" * MIB})), 422),
    Hostile("50,000 wrong samples", batch(samples=json.dumps([["x", "y"]] * 50_000)), 422),
    Hostile("100,000 labels", batch(labels=MANY), 422),
    Hostile("millions of commas", b"[" + b"," * 4_000_000, 413),
    Hostile("too many series", json.dumps({"series": [0] * 10_001}).encode(), 413),
    Hostile("too many lines", b"{}\n" * 10_001, 413, LINES),
    Hostile("too many samples", batch(samples=json.dumps([0] * 50_001)), 413),
    Hostile("too large", b" " * (16 * MIB + 1), 413),
    Hostile("no content type", batch(), 415, ""),
    Hostile("text as a body", batch(), 415, "text/plain"),
    Hostile("a form", b"series=1", 415, "application/x-www-form-urlencoded"),
    Hostile("several parts", b"--x\r\n\r\n--x--", 415, "multipart/form-data; boundary=x"),
    Hostile("another encoding", batch(), 415, JSON, "compress"),
    Hostile("encoded twice", gzip.compress(gzip.compress(batch())), 415, JSON, "gzip, gzip"),
    *(Hostile(f"not {encoding} at all", batch(), 400, JSON, encoding) for encoding in BOMBS),
    *(Hostile(f"no {encoding} at all", b"", 400, JSON, encoding) for encoding in BOMBS),
    Hostile("cut off gzip", gzip.compress(batch() * 50)[:-9], 400, JSON, "gzip"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shared_database_url: str) -> AsyncIterator[ServingProcess]:
    async with serving_process(shared_database_url) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: ServingProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def documented(client: AsyncClient) -> dict[str, Any]:
    """What the document says that may be answered to a batch, by status."""
    document = (await client.get("/openapi.json")).json()
    answers: dict[str, Any] = document["paths"]["/v1/samples"]["post"]["responses"]
    return answers


async def send(client: AsyncClient, hostile: Hostile, **parameters: str) -> Response:
    return await client.post(
        "/v1/samples",
        content=hostile.body.replace(NOW, str(now_ms()).encode()),
        headers={"content-type": hostile.content_type, "content-encoding": hostile.encoding},
        params=parameters,
    )


def assert_documented(answer: Response, documented: dict[str, Any]) -> None:
    described = documented[str(answer.status_code)]["content"]
    assert answer.headers["content-type"] in described
    assert answer.json()
    assert len(answer.content) < 3 * MIB


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
async def test_hostile_bodies_are_answered_as_documented(
    client: AsyncClient, documented: dict[str, Any], hostile: Hostile
) -> None:
    answer = await send(client, hostile)
    in_part = await send(client, hostile, partial="true", dry_run="true")

    assert answer.status_code == hostile.status, answer.text[:500]
    assert_documented(answer, documented)
    assert in_part.status_code == (207 if hostile.status == 422 else hostile.status)
    assert_documented(in_part, documented)


@pytest.mark.parametrize("encoding", BOMBS)
async def test_a_bomb_is_too_large(
    client: AsyncClient, documented: dict[str, Any], encoding: str
) -> None:
    answer = await send(client, Hostile(encoding, BOMBS[encoding](), 413, JSON, encoding))

    assert answer.status_code == 413
    assert_documented(answer, documented)


@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_gibibyte_is_refused_before_it_is_sent(
    server: ServingProcess, *, is_announced: bool
) -> None:
    head = "POST /v1/samples HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    length = f"Content-Length: {GIB}" if is_announced else "Transfer-Encoding: chunked"
    piece = b" " * MIB if is_announced else b"100000\r\n" + b" " * MIB + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)

    writer.write(f"{head}{length}\r\n\r\n".encode())
    answering = asyncio.ensure_future(reader.readline())
    sent_bytes = 0
    with suppress(ConnectionError):  # it may hang up, once it has answered
        while not answering.done() and sent_bytes < GIB:
            writer.write(piece)
            await writer.drain()
            sent_bytes += MIB

    writer.transport.abort()

    assert (await answering).startswith(b"HTTP/1.1 413 ")
    assert sent_bytes < 64 * MIB
    with suppress(OSError):
        await writer.wait_closed()


async def test_hostile_requests_cost_hardly_any_memory(
    client: AsyncClient, server: ServingProcess
) -> None:
    bombs = [Hostile(name, make(), 413, JSON, name) for name, make in BOMBS.items()]
    for _ in range(3):
        await push(client, series("up"))
        await push_lines(client, series("up"))
    before = server.memory("VmRSS")

    for hostile in (*CORPUS, *bombs, *CORPUS):
        assert (await send(client, hostile)).status_code == hostile.status

    assert server.memory("VmRSS") - before < 30 * MIB
    assert (await push(client, series("up"))).status_code == 200
