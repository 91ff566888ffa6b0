"""Admission control: excess requests are refused early, so that admitted ones are completed."""

from collections.abc import Callable
from time import monotonic

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infrawatch.access.keys.credentials import find_credential
from infrawatch.access.requests.refusals import origin_of
from infrawatch.errors import Overloaded
from infrawatch.problems import to_response
from infrawatch.telemetry import Telemetry

PROMPT_S = 1.0
"""A response that takes longer counts as late. The shortest known timeout of a sender is five
seconds (Telegraf's), after which it sends the same batch again."""

_FIRST_BYTES = 16 * 1024 * 1024
"""Initial limit, a third of a second's work; prompt responses raise it."""

_MIN_BYTES = 1024 * 1024

_LARGE_BYTES = _MIN_BYTES // 2
"""Maximum that one body counts towards the limit for new requests: larger bodies are read in
threads, in parallel, and a single one must not block all other senders."""

_MAX_SHRINK, _GROWTH = 0.5, 0.1

HOLD = "infrawatch.hold"
"""Key of the `Hold` in a request's scope, for the code that inflates its body."""

Hold = Callable[[int], None]
"""Counts memory that a request will use beyond its body as sent; a negative size releases it.

Raises:
    Overloaded: other requests use too much already; nothing is counted.
"""


class InFlight:
    """Bytes of request bodies that are received but not answered, and the limit on them.

    The limit adapts to what is answered promptly and never exceeds `max_bytes`: a queue that takes
    longer to empty than senders wait would be wasted work. Late responses shrink the limit in
    proportion to their delay, by at most half and at most once per `PROMPT_S`. While more than
    half of the limit is in use, prompt responses raise it by a tenth of the bytes answered. Memory
    for inflated bodies is counted as held: no more is granted once received and held bytes together
    reach `max_bytes`.

    A sender that uses less than its share is never refused, so that no sender can lock out another.
    Shares are equal; because of them the total may reach twice the limit.
    """

    def __init__(self, max_bytes: int, telemetry: Telemetry) -> None:
        self.bytes = 0
        self.held_bytes = 0
        self._limited_bytes = 0
        self._by_sender: dict[str, int] = {}  # by sender, held bytes included, no zeros
        self.limit_bytes = min(_FIRST_BYTES, max_bytes)
        self._max_bytes = max_bytes
        self._telemetry = telemetry
        self._shrunk_at = -PROMPT_S
        telemetry.sample(telemetry.under_way_bytes, lambda: self.bytes)

    def begin(self, sender: str) -> None:
        """Admit a request of which nothing has been read.

        Raises:
            Overloaded: the limit is reached, and the sender has used its share.
        """
        if self._limited_bytes >= self.limit_bytes and self._has_share(sender, self.limit_bytes):
            raise self._refusal()

    def receive(self, sender: str, size: int, own: int, held: int = 0) -> None:
        """Count a piece of a request that has received `own` bytes and holds `held` bytes so far.

        Raises:
            Overloaded: other requests use too many bytes; the piece is not counted.
        """
        others = self.bytes + self.held_bytes - own - held
        if others >= self._max_bytes and self._has_share(sender, self._max_bytes):
            raise self._refusal()
        self._limited_bytes += min(own + size, _LARGE_BYTES) - min(own, _LARGE_BYTES)
        self.bytes += size
        self._add(sender, size)

    def hold(self, sender: str, size: int, own: int) -> None:
        """Count memory for a request that uses `own` bytes so far, received and held.

        Raises:
            Overloaded: other requests use too many bytes; these are not counted.
        """
        others = self.bytes + self.held_bytes - own
        is_full = size > 0 and others >= self._max_bytes
        if is_full and self._has_share(sender, self._max_bytes):
            raise self._refusal()
        self.held_bytes += size
        self._add(sender, size)

    def answer(self, size: int, took_s: float) -> None:
        """Adapt the limit to a response to a request of `size` bytes, `took_s` after its last."""
        now = monotonic()
        if took_s <= PROMPT_S:
            if 2 * self.bytes > self.limit_bytes:
                self.limit_bytes = min(self._max_bytes, self.limit_bytes + round(_GROWTH * size))
        elif now - self._shrunk_at > PROMPT_S:
            self._shrunk_at = now
            kept = max(_MAX_SHRINK, PROMPT_S / took_s)
            self.limit_bytes = max(_MIN_BYTES, round(kept * self.limit_bytes))

    def leave(self, sender: str, size: int, held: int = 0) -> None:
        """Stop counting a request: it has been answered, or its sender has disconnected."""
        self._limited_bytes -= min(size, _LARGE_BYTES)
        self.bytes -= size
        self.held_bytes -= held
        self._add(sender, -size - held)

    def _refusal(self) -> Overloaded:
        self._telemetry.overload_refusals.inc()
        return Overloaded("more is under way than can be answered soon; send again shortly")

    def _has_share(self, sender: str, max_bytes: int) -> bool:
        """Whether a sender uses at least an equal share of `max_bytes`."""
        own = self._by_sender.get(sender, 0)
        return own > 0 and own * len(self._by_sender) >= max_bytes

    def _add(self, sender: str, size: int) -> None:
        own = self._by_sender.pop(sender, 0) + size
        if own:
            self._by_sender[sender] = own


class AdmissionControl:
    """Middleware that refuses requests with bodies while too many bytes are in flight.

    It runs before everything that costs time, so its response is the same for every protocol: a
    problem, with a status and a `Retry-After` that all senders understand.
    """

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        sender = _sender_of(HTTPConnection(scope))
        try:
            self._in_flight.begin(sender)
        except Overloaded as error:
            await to_response(error)(scope, receive, send)
        else:
            await self._admit(sender, scope, receive, send)

    async def _admit(self, sender: str, scope: Scope, receive: Receive, send: Send) -> None:
        in_flight = self._in_flight
        size = held = 0
        received_at: float | None = None

        async def counting() -> Message:
            nonlocal size, received_at
            message = await receive()
            piece = len(message.get("body", b""))
            in_flight.receive(sender, piece, size, held)
            size += piece
            if message["type"] == "http.request" and not message.get("more_body", False):
                received_at = monotonic()
            return message

        def hold(more: int) -> None:
            nonlocal held
            in_flight.hold(sender, more, size + held)
            held += more

        async def adapting(message: Message) -> None:
            if message["type"] == "http.response.start" and received_at is not None:
                in_flight.answer(size, monotonic() - received_at)
            await send(message)

        scope[HOLD] = hold
        try:
            await self._app(scope, counting, adapting)
        finally:
            in_flight.leave(sender, size, held)


def _sender_of(connection: HTTPConnection) -> str:
    """Identify a sender by its key, which is verified before the body is read, else by origin."""
    return find_credential(connection) or origin_of(connection)
