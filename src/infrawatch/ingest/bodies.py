"""Request bodies, whole and inflated, never larger than a bound."""

import asyncio
from collections.abc import Callable

import cramjam
from fastapi import Request
from starlette.requests import ClientDisconnect

from infrawatch.errors import MalformedBody, TooLarge, UnsupportedContent
from infrawatch.ingest.admission import HOLD, Hold

_OFF_LOOP_BYTES = 256 * 1024
_INFLATED_OFF_LOOP_BYTES = 4 * 1024 * 1024
"""Inflating this much, to so much, takes a few milliseconds; more is inflated in a thread."""

_SNAPPY_OFF_LOOP_BYTES = 2 * 1024 * 1024
"""Inflated; snappy says beforehand how much that is, and takes about a millisecond for it."""

_GUESSES = (16, 256)
"""Metrics compress about tenfold; a buffer so many times the body nearly always suffices. One that
holds the largest body takes 40 ms to make, whatever is in it."""

Inflate = Callable[[bytes, bytearray], int]


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The request's body, without its Content-Encoding.

    Raises:
        TooLarge: it is larger than `max_bytes`, as sent or inflated; the rest was not inflated.
        UnsupportedContent: an encoding other than gzip, zstd, deflate, br.
        MalformedBody: it is not what its encoding says, or broke off.
        Overloaded: with what it inflates to, too much would be under way.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    body = await read_raw_body(request, max_bytes=max_bytes)
    if encoding in ("identity", ""):
        return body
    inflate = _INFLATE.get(encoding)
    if inflate is None:
        raise UnsupportedContent(
            f"Content-Encoding {encoding[:50]!r} is not read here: use gzip, zstd, deflate or br"
        )
    hold: Hold = request.scope[HOLD]
    guesses = (min(max_bytes, times * len(body)) for times in _GUESSES)
    for size in dict.fromkeys((*guesses, max_bytes)):
        hold(size)
        if len(body) > _OFF_LOOP_BYTES or size > _INFLATED_OFF_LOOP_BYTES:
            inflated = await asyncio.to_thread(_inflate_up_to, size, body, inflate)
        else:
            inflated = _inflate_up_to(size, body, inflate)
        if isinstance(inflated, bytes):
            hold(len(inflated) - size)
            return inflated
        hold(-size)
        if "whole buffer" not in inflated:  # cramjam's words for an output that is full
            raise MalformedBody(f"the body is not valid {encoding}: {inflated}")
    raise _too_large(max_bytes)


async def read_snappy_body(request: Request, *, max_bytes: int) -> bytes:
    """The request's body, which is one block of snappy without framing (remote write's kind).

    Raises:
        TooLarge: it is larger than `max_bytes`, as sent or inflated; nothing was inflated.
        MalformedBody: it is no such block, or broke off.
        Overloaded: with what it inflates to, too much would be under way.
    """
    body = await read_raw_body(request, max_bytes=max_bytes)
    try:
        size = cramjam.snappy.decompress_raw_len(body)
        if size > max_bytes:
            raise _too_large(max_bytes)
        hold: Hold = request.scope[HOLD]
        hold(size)
        if size > _SNAPPY_OFF_LOOP_BYTES:
            return bytes(await asyncio.to_thread(cramjam.snappy.decompress_raw, body))
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise MalformedBody(f"the body is not a block of snappy: {error}") from None


async def read_raw_body(request: Request, *, max_bytes: int) -> bytes:
    """The request's body as it was sent.

    Raises:
        TooLarge: it is larger than `max_bytes`; the rest was not kept.
        MalformedBody: the sender went away before its end.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    pieces: list[bytes] = []
    total = 0
    try:
        async for piece in request.stream():
            total += len(piece)
            if total > max_bytes:
                raise _too_large(max_bytes)
            pieces.append(piece)
    except ClientDisconnect:
        raise MalformedBody("the body broke off before its end: send it again") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _inflate_up_to(size: int, body: bytes, inflate: Inflate) -> bytes | str:
    """The body inflated, or why not, into a buffer that ends there, so that a bomb stops.

    The reason is text, since an exception would keep the buffer until it has been answered.
    """
    buffer = bytearray(size)
    try:
        return bytes(memoryview(buffer)[: inflate(body, buffer)])
    except cramjam.DecompressionError as error:
        return str(error)


def _inflate_deflate(body: bytes, buffer: bytearray) -> int:
    """RFC 9110 means zlib by "deflate"; many senders leave its wrapping out."""
    try:
        return int(cramjam.zlib.decompress_into(body, buffer))
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise
        return int(cramjam.deflate.decompress_into(body, buffer))


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {max_bytes} bytes after decompression: send smaller batches, "
        "or raise INFRAWATCH_MAX_BODY_BYTES"
    )


_INFLATE: dict[str, Inflate] = {
    "gzip": cramjam.gzip.decompress_into,
    "x-gzip": cramjam.gzip.decompress_into,
    "zstd": cramjam.zstd.decompress_into,
    "br": cramjam.brotli.decompress_into,
    "deflate": _inflate_deflate,
}
