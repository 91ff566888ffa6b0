"""Reading and decompressing of whole request bodies, up to a maximum size."""

import asyncio
from collections.abc import Callable

import cramjam
from fastapi import Request
from starlette.requests import ClientDisconnect

from infrawatch.access.requests.headers import find_header
from infrawatch.errors import MalformedBody, TooLarge, UnsupportedContent
from infrawatch.ingest.scheduling.admission import HOLD, Hold

_OFF_LOOP_BYTES = 256 * 1024
_INFLATED_OFF_LOOP_BYTES = 4 * 1024 * 1024
"""Inflating this much, to this size, takes a few milliseconds; more is inflated in a thread."""

_SNAPPY_OFF_LOOP_BYTES = 2 * 1024 * 1024
"""Inflated size, which snappy states beforehand; inflating this much takes about a millisecond."""

_GUESSES = (16, 256)
"""Buffer sizes to try first, as multiples of the body: metrics compress about tenfold, so these
nearly always suffice. A buffer for the largest allowed body takes 40 ms to allocate."""

Inflate = Callable[[bytes, bytearray], int]


def media_type_of(request: Request) -> str:
    """Return the Content-Type of a request without its parameters; empty if it has none."""
    content_type = find_header(request.scope, b"content-type", "")
    return content_type.partition(";")[0].strip().lower()


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Read the request's body and decode its Content-Encoding.

    Raises:
        TooLarge: it is larger than `max_bytes`, as sent or inflated; the rest was not inflated.
        UnsupportedContent: an encoding other than gzip, zstd, deflate or br.
        MalformedBody: it is not valid in its encoding, or is incomplete.
        Overloaded: inflated, it would exceed the memory for requests in flight.
    """
    encoding = find_header(request.scope, b"content-encoding", "identity").strip().lower()
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
        if "whole buffer" not in inflated:  # cramjam's message when the output buffer is full
            raise MalformedBody(f"the body is not valid {encoding}: {inflated}")
    raise _too_large(max_bytes)


async def read_snappy_body(request: Request, *, max_bytes: int) -> memoryview:
    """Read the request's body, a single snappy block without framing (as in remote write).

    The inflated body is not copied to `bytes`: its size is mostly labels, which are only compared.

    Raises:
        TooLarge: it is larger than `max_bytes`, as sent or inflated; nothing was inflated.
        MalformedBody: it is not a valid block, or is incomplete.
        Overloaded: inflated, it would exceed the memory for requests in flight.
    """
    body = await read_raw_body(request, max_bytes=max_bytes)
    try:
        size = cramjam.snappy.decompress_raw_len(body)
        if size > max_bytes:
            raise _too_large(max_bytes)
        hold: Hold = request.scope[HOLD]
        hold(size)
        if size > _SNAPPY_OFF_LOOP_BYTES:
            return memoryview(await asyncio.to_thread(cramjam.snappy.decompress_raw, body))
        return memoryview(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise MalformedBody(f"the body is not a block of snappy: {error}") from None


async def read_raw_body(request: Request, *, max_bytes: int) -> bytes:
    """Read the request's body as it was sent.

    Raises:
        TooLarge: it is larger than `max_bytes`; the rest was not kept.
        MalformedBody: the sender disconnected before the end.
    """
    announced = find_header(request.scope, b"content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    pieces: list[bytes] = []
    total = 0
    try:
        async for piece in request.stream():
            total += len(piece)
            if total > max_bytes:
                raise _too_large(max_bytes)
            if piece:  # the last one is empty: joining it to another would copy the whole body
                pieces.append(piece)
    except ClientDisconnect:
        raise MalformedBody("the body broke off before its end: send it again") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _inflate_up_to(size: int, body: bytes, inflate: Inflate) -> bytes | str:
    """Inflate into a buffer of fixed size, which stops decompression bombs; else return why not.

    The reason is text, because an exception would keep the buffer alive until the response.
    """
    buffer = bytearray(size)
    try:
        return bytes(memoryview(buffer)[: inflate(body, buffer)])
    except cramjam.DecompressionError as error:
        return str(error)


def _inflate_deflate(body: bytes, buffer: bytearray) -> int:
    """RFC 9110 defines "deflate" as the zlib format; many senders omit the zlib wrapper."""
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
