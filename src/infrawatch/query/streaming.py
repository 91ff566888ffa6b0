"""Answers that are sent in pieces."""

from collections.abc import Generator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

Pieces = Generator[bytes, None, None]
"""An answer, made piece by piece; what it is made of is free when this is closed."""


class PiecesResponse(StreamingResponse):
    """Lets go of what an answer is made of when nobody reads it any more.

    Whoever hangs up leaves an error that refers to itself, and the pieces with it; so large an
    answer would stay in memory until the garbage collector comes by, which it rarely does.
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
