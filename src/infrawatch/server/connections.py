"""uvicorn's HTTP protocol, which cuts off slow peers and excess connections."""

import asyncio
import logging
from math import ceil
from typing import Any, Literal

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from infrawatch.errors import DeadlineExceeded, InfraWatchError, Overloaded
from infrawatch.server.connection_limits import ConnectionLimits
from infrawatch.server.declined_offers import DecliningProtocol
from infrawatch.server.refusals import to_bytes
from infrawatch.server.request_heads import HeadersTooLarge, NotHttp, UrlTooLong, find_flaw
from infrawatch.server.send_progress import SendProgress
from infrawatch.telemetry import CONNECTIONS_LOGGER

_TICK_S = 1.0
"""Deadlines are counted in ticks of the event loop, so a blocked loop does not make peers late."""

Reason = Literal[
    "address",
    "answer_deadline",
    "body_deadline",
    "header_deadline",
    "header_size",
    "not_http",
    "total",
    "url_size",
]


class HttpProtocol(DecliningProtocol):
    """uvicorn's protocol, with deadlines for heads, bodies and responses, and limits on heads.

    A head has to arrive within its deadline. So does a body, but every byte of it extends the
    deadline: a slow upload that progresses is served, a stalled one is not. The same applies to
    the peer's reading of a response.
    """

    def __init__(self, *, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._settings = limits.settings
        self._awaited: Literal["head", "body"] | None = None
        self._ticks = 0
        self._head_bytes = self._header_bytes = self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._progress: SendProgress | None = None
        self._flaw: tuple[Reason, InfraWatchError] = ("not_http", NotHttp("this is not HTTP"))
        self.logger = logging.getLogger(CONNECTIONS_LOGGER)

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        reason = self._limits.admit(transport, self.client[0] if self.client else "")
        if reason is not None:
            self._refuse(reason, Overloaded("there are too many connections; try again later"))
            return
        self._await("head")
        self._watch()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        self._limits.release(self.transport)
        super().connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._progress = SendProgress(self.transport, self._settings)
        self._watch()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._progress = None

    @override
    def data_received(self, data: bytes) -> None:
        if self._awaited is None and not self._is_answering():
            self._await("head")
        was_awaited = self._awaited
        super().data_received(data)
        if was_awaited == self._awaited == "head":  # otherwise it arrived in one piece
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.max_header_bytes:
                self._refuse("header_size", self._headers_too_large())
        self._watch()

    @override
    def on_message_begin(self) -> None:
        self._await("head")
        super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        max_bytes = self._settings.max_url_bytes
        if len(self.url) > max_bytes:
            self._flaw = (
                "url_size",
                UrlTooLong(
                    f"the URL is longer than {max_bytes} bytes: ask for less at once, or raise "
                    "INFRAWATCH_MAX_URL_BYTES"
                ),
            )
            raise self._flaw[1]

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._settings.max_header_bytes:
            self._flaw = "header_size", self._headers_too_large()
            raise self._flaw[1]
        if self._awaited == "head":  # else a trailer, not part of the head (RFC 9110, 6.5.1)
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        if flaw := find_flaw(self.parser.get_http_version(), self.headers):
            self._flaw = "not_http", flaw
            raise flaw
        self._await("body")
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:  # otherwise it is discarded and earns no more time
            self._body_bytes += len(body)
        self._spare_copies()
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._awaited = None
        super().on_message_complete()

    @override
    def handle_websocket_upgrade(self) -> None:
        self._awaited = None
        self._stop_watching()
        super().handle_websocket_upgrade()

    @override
    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn when the parser fails, on invalid input or an error raised here."""
        self._refuse(*self._flaw)

    def _spare_copies(self) -> None:
        """Let uvicorn take over a piece of the body that it hands on alone, as it usually does.

        It appends pieces to a bytearray, and copies that to bytes. Adding bytes to no bytes, and
        converting them to bytes, copies nothing.
        """
        received: bytes | bytearray = self.cycle.body
        if not received:
            self.cycle.body = b""  # type: ignore[assignment]  # uvicorn's is a bytearray
        elif isinstance(received, bytes):
            self.cycle.body = bytearray(received)

    def _await(self, awaited: Literal["head", "body"]) -> None:
        self._awaited = awaited
        self._ticks = self._head_bytes = self._header_bytes = self._body_bytes = 0

    def _watch(self) -> None:
        """Run the timer only while waiting for the peer."""
        if self._progress is None and (self._awaited is None or self.transport.is_closing()):
            self._stop_watching()
        elif self._timer is None:
            self._timer = self.loop.call_later(_TICK_S, self._tick)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        if self._progress is not None and self._progress.is_too_slow(_TICK_S):
            self._count("answer_deadline")
            self.transport.abort()
        elif self._awaited is None or self.transport.is_closing():
            self._watch()
        else:
            self._tick_awaiting()

    def _tick_awaiting(self) -> None:
        is_kept_waiting = self.flow.read_paused or (
            self._awaited == "head" and self._is_answering()
        )
        self._ticks += not is_kept_waiting
        if self._ticks < self._patience_ticks():
            self._watch()
        elif self._awaited == "head":  # there is no request to answer
            self._count("header_deadline")
            self.transport.close()
        else:
            rate = self._settings.body_min_bytes_per_s
            self._refuse(
                "body_deadline",
                DeadlineExceeded(
                    f"the body came too slowly: less than {rate} bytes a second; send smaller "
                    "batches, or lower INFRAWATCH_BODY_MIN_BYTES_PER_S"
                ),
            )

    def _patience_ticks(self) -> int:
        settings = self._settings
        if self._awaited == "head":
            return ceil(settings.header_deadline.total_seconds() / _TICK_S)
        earned_s = self._body_bytes / settings.body_min_bytes_per_s
        return ceil((settings.body_deadline.total_seconds() + earned_s) / _TICK_S)

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _headers_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"the headers are larger than {self._settings.max_header_bytes} bytes together: leave "
            "some out, or raise INFRAWATCH_MAX_HEADER_BYTES"
        )

    def _refuse(self, reason: Reason, error: InfraWatchError) -> None:
        """Answer with a problem and close; in the middle of another response, only close."""
        self._count(reason)
        self._stop_watching()
        is_begun = self._is_answering() and self.cycle.response_started
        if not (is_begun or self.pipeline or self.transport.is_closing()):
            self.transport.write(to_bytes(error))
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _count(self, reason: Reason) -> None:
        self.app_state["health"].telemetry.connections_cut.labels(reason).inc()
