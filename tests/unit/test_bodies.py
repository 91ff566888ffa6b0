"""Request bodies: whole, inflated, and never larger than their bound."""

import gzip
import threading
import zlib
from collections.abc import Callable
from random import Random

import cramjam
import pytest
from fastapi import Request
from starlette.types import Message

from infrawatch.errors import MalformedBody, Overloaded, TooLarge, UnsupportedContent
from infrawatch.ingest import bodies
from infrawatch.ingest.bodies import read_body, read_snappy_body
from infrawatch.ingest.scheduling.admission import HOLD, Hold

PLAIN = b'{"series":[{"metric":"up","samples":[[1,1]]}]}' * 40
NOISE = Random(7).randbytes(3_000)  # compresses to more than itself


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


COMPRESSORS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("zstd", lambda body: bytes(cramjam.zstd.compress(body))),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", lambda body: bytes(cramjam.brotli.compress(body))),
]
EVERY_ENCODING = pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS)


def request(
    *pieces: bytes,
    encoding: str | None = None,
    length: str = "",
    breaks_off: bool = False,
    hold: Hold = lambda _more: None,
) -> Request:
    """A request whose body comes in pieces."""
    end: Message = (
        {"type": "http.disconnect"}
        if breaks_off
        else {"type": "http.request", "body": b"", "more_body": False}
    )
    messages: list[Message] = [
        *({"type": "http.request", "body": piece, "more_body": True} for piece in pieces),
        end,
    ]

    async def receive() -> Message:
        return messages.pop(0)

    sent = {"content-encoding": encoding, "content-length": length}
    headers = [(name.encode(), text.encode()) for name, text in sent.items() if text is not None]
    return Request({"type": "http", "headers": headers, HOLD: hold}, receive)


@pytest.mark.parametrize("encoding", [None, "", "identity", "IDENTITY "])
async def test_a_plain_body_is_itself(encoding: str | None) -> None:
    assert await read_body(request(PLAIN, encoding=encoding), max_bytes=len(PLAIN)) == PLAIN


@EVERY_ENCODING
@pytest.mark.parametrize("plain", [PLAIN, NOISE, b"x", PLAIN * 1_000])
async def test_a_body_is_inflated_up_to_its_bound(
    encoding: str, compress: Callable[[bytes], bytes], plain: bytes
) -> None:
    body = compress(plain)
    bound = max(len(plain), len(body))

    assert await read_body(request(body, encoding=encoding.upper()), max_bytes=bound) == plain
    with pytest.raises(TooLarge, match="INFRAWATCH_MAX_BODY_BYTES"):
        await read_body(request(body, encoding=encoding), max_bytes=len(plain) - 1)


@EVERY_ENCODING
async def test_a_body_that_was_cut_off_is_malformed(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(NOISE)

    for end in (0, 1, 10, len(body) // 2, len(body) - 1):
        with pytest.raises(MalformedBody, match=encoding):
            await read_body(request(body[:end], encoding=encoding), max_bytes=10_000)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate", "br"])
async def test_a_body_of_something_else_is_malformed(encoding: str) -> None:
    with pytest.raises(MalformedBody, match=encoding):
        await read_body(request(NOISE, encoding=encoding), max_bytes=10_000)


@pytest.mark.parametrize(("encoding", "compress"), [COMPRESSORS[0], COMPRESSORS[3]])
async def test_damage_that_the_format_can_notice_is_malformed(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    damaged = bytearray(compress(NOISE))
    damaged[len(damaged) // 2] ^= 0xFF

    with pytest.raises(MalformedBody, match=encoding):
        await read_body(request(bytes(damaged), encoding=encoding), max_bytes=10_000)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_several_members_are_one_body(encoding: str) -> None:
    compress = dict(COMPRESSORS)[encoding]

    body = await read_body(
        request(compress(b"ab") + compress(b"c"), encoding=encoding), max_bytes=1_000
    )

    assert body == b"abc"


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "snappy", "base64", "x" * 5_000])
async def test_an_unsupported_encoding_is_named(encoding: str) -> None:
    with pytest.raises(UnsupportedContent, match="use gzip, zstd, deflate or br") as refused:
        await read_body(request(b"", encoding=encoding), max_bytes=1_000)
    assert len(str(refused.value)) < 300


async def test_a_body_in_pieces_is_put_together() -> None:
    pieces = [PLAIN[:7], b"", PLAIN[7:]]

    assert await read_body(request(*pieces), max_bytes=len(PLAIN)) == PLAIN


async def test_a_body_that_is_announced_too_large_is_not_read() -> None:
    with pytest.raises(TooLarge):
        await read_body(request(length="1001", breaks_off=True), max_bytes=1_000)


async def test_a_body_that_grows_too_large_is_not_read_on() -> None:
    pieces = [b"x" * 600] * 2

    with pytest.raises(TooLarge):
        await read_body(request(*pieces, breaks_off=True), max_bytes=1_000)


async def test_a_body_that_breaks_off_is_malformed() -> None:
    with pytest.raises(MalformedBody, match="broke off"):
        await read_body(request(b"x", breaks_off=True), max_bytes=1_000)


@EVERY_ENCODING
@pytest.mark.parametrize("off_loop_bytes", [0, 1 << 20])
async def test_inflated_bytes_are_counted_from_start_to_end(
    encoding: str,
    compress: Callable[[bytes], bytes],
    off_loop_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "_OFF_LOOP_BYTES", off_loop_bytes)
    held: list[int] = []
    sent = request(compress(PLAIN), encoding=encoding, hold=held.append)

    assert await read_body(sent, max_bytes=10_000) == PLAIN

    assert held[0] >= len(compress(PLAIN)), "a buffer of the largest size needed"
    assert sum(held) == len(PLAIN)


@EVERY_ENCODING
async def test_the_inflated_size_decides_where_a_small_body_is_inflated(
    encoding: str, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_INFLATED_OFF_LOOP_BYTES", 64 * 1024)
    inflate, here = bodies._INFLATE[encoding], threading.get_ident()
    inflated_by: list[int] = []

    def watched(body: bytes, buffer: bytearray) -> int:
        inflated_by.append(threading.get_ident())
        return inflate(body, buffer)

    monkeypatch.setitem(bodies._INFLATE, encoding, watched)
    for plain in (PLAIN, bytes(2**20)):
        body = compress(plain)
        assert len(body) < 2_000
        assert await read_body(request(body, encoding=encoding), max_bytes=2**20) == plain
        assert (inflated_by[-1] == here) == (plain is PLAIN)


@EVERY_ENCODING
async def test_a_body_without_room_in_memory_is_not_inflated(
    encoding: str, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_more: int) -> None:
        raise Overloaded

    monkeypatch.setattr(bodies, "_inflate_up_to", pytest.fail)

    with pytest.raises(Overloaded):
        await read_body(request(compress(PLAIN), encoding=encoding, hold=refuse), max_bytes=10_000)


async def test_a_snappy_block_counts_with_its_stated_size() -> None:
    held: list[int] = []
    sent = request(bytes(cramjam.snappy.compress_raw(PLAIN)), hold=held.append)

    assert await read_snappy_body(sent, max_bytes=10_000) == PLAIN

    assert held == [len(PLAIN)]
