"""Answers that are sent in pieces."""

from collections.abc import Generator

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

Pieces = Generator[bytes, None, None]
"""An answer, made piece by piece; closing it releases its data."""

SERIES_WEIGHT = 10
"""Writing the name of a series takes as long as writing ten values."""

_AT_ONCE = 20_000
"""Values sent at once: a few milliseconds and half a megabyte of JSON."""


class PiecesResponse(StreamingResponse):
    """Releases the data of an answer once the client stops reading it.

    A disconnect leaves an error that refers to itself and to the pieces; without an explicit close,
    a large answer would stay in memory until the garbage collector runs, which it rarely does.
    """

    def __init__(self, pieces: Pieces, media_type: str) -> None:
        super().__init__(pieces, media_type=media_type)
        self._pieces = pieces

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()


def to_response(pieces: Pieces, values: int, media_type: str = "application/json") -> Response:
    """Send a small answer at once; a stream makes each of its pieces in another thread."""
    if values <= _AT_ONCE:
        return Response(b"".join(pieces), media_type=media_type)
    return PiecesResponse(pieces, media_type)
