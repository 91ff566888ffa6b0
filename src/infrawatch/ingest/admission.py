"""Too much at once is refused before anybody reads it, so that what was taken is finished."""

from collections import Counter
from collections.abc import Callable
from time import monotonic

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infrawatch.access.credentials import find_credential
from infrawatch.access.refusals import origin_of
from infrawatch.errors import Overloaded
from infrawatch.problems import to_response
from infrawatch.telemetry import Telemetry

PROMPT_S = 1.0
"""An answer that takes longer is late. The shortest patience of a sender we know is five seconds
(Telegraf's), and after it the same batch comes again."""

_FIRST_BYTES = 16 * 1024 * 1024
"""A third of a second's work; more has to prove that it is answered promptly."""

_LEAST_BYTES = 1024 * 1024

_LARGE_BYTES = _LEAST_BYTES // 2
"""No body counts for more when others want to begin: larger ones are read in threads, beside them,
and one alone must not turn everybody else away."""

_MOST_SHRINKING, _GROWTH = 0.5, 0.1

HOLD = "infrawatch.hold"
"""Where in a request's scope those who inflate its body find a `Hold`."""

Hold = Callable[[int], None]
"""Counts memory that a request is about to take beside what it has sent; less than 0 gives it back.

Raises:
    Overloaded: others take too much already; nothing is counted.
"""


class UnderWay:
    """Bytes of bodies that are here and not answered, and how many there may be before we refuse.

    As many as are answered promptly, and never more than `most_bytes`: a queue that takes longer to
    empty than senders wait would be work for nobody. While answers are late the limit shrinks by as
    much as they are late, once for each time that one may take; while it is needed and they are
    prompt, it grows by a tenth of what is answered. What bodies take beside that, inflated, is
    held: no more of it is begun when all together is as much as `most_bytes`.

    Whoever has less than their share of it is never refused, so that one sender turns no other
    away. Shares are equal; with them there may be twice as much in all.
    """

    def __init__(self, most_bytes: int, telemetry: Telemetry) -> None:
        self.bytes = 0
        self.held_bytes = 0
        self._crowd_bytes = 0
        self._of: Counter[str] = Counter()  # of senders, held ones too; none of them 0
        self.limit_bytes = min(_FIRST_BYTES, most_bytes)
        self._most_bytes = most_bytes
        self._telemetry = telemetry
        self._shrunk_at = -PROMPT_S

    def begin(self, sender: str) -> None:
        """Let a request begin, of which nothing was read.

        Raises:
            Overloaded: there are too many bytes.
        """
        if self._crowd_bytes >= self.limit_bytes and self._has_share(sender, self.limit_bytes):
            raise self._refusal()

    def receive(self, sender: str, size: int, own: int, held: int = 0) -> None:
        """Count a piece of a request of which `own` bytes were here before, beside what it holds.

        Raises:
            Overloaded: there are too many bytes of others; the piece is not counted.
        """
        others = self.bytes + self.held_bytes - own - held
        if others >= self._most_bytes and self._has_share(sender, self._most_bytes):
            raise self._refusal()
        self._crowd_bytes += min(own + size, _LARGE_BYTES) - min(own, _LARGE_BYTES)
        self._count(sender, size)

    def hold(self, sender: str, size: int, own: int) -> None:
        """Count what a request of which `own` bytes are here, held ones too, takes beside them.

        Raises:
            Overloaded: there are too many bytes of others; these are not counted.
        """
        others = self.bytes + self.held_bytes - own
        is_full = size > 0 and others >= self._most_bytes
        if is_full and self._has_share(sender, self._most_bytes):
            raise self._refusal()
        self._hold(sender, size)

    def answer(self, size: int, took_s: float) -> None:
        """Learn from an answer to a request of so many bytes, so long after its last one."""
        now = monotonic()
        if took_s <= PROMPT_S:
            if 2 * self.bytes > self.limit_bytes:
                self.limit_bytes = min(self._most_bytes, self.limit_bytes + round(_GROWTH * size))
        elif now - self._shrunk_at > PROMPT_S:
            self._shrunk_at = now
            kept = max(_MOST_SHRINKING, PROMPT_S / took_s)
            self.limit_bytes = max(_LEAST_BYTES, round(kept * self.limit_bytes))

    def leave(self, sender: str, size: int, held: int = 0) -> None:
        """Forget a request of so many bytes: it is answered, or its sender has left."""
        self._crowd_bytes -= min(size, _LARGE_BYTES)
        self._hold(sender, -held)
        self._count(sender, -size)

    def _refusal(self) -> Overloaded:
        self._telemetry.overload_refusals.inc()
        return Overloaded("more is under way than can be answered soon; send again shortly")

    def _has_share(self, sender: str, most_bytes: int) -> bool:
        """Whether a sender has as much as each may have, if all have as much."""
        own = self._of.get(sender, 0)
        return own > 0 and own * len(self._of) >= most_bytes

    def _hold(self, sender: str, size: int) -> None:
        self.held_bytes += size
        self._add(sender, size)

    def _add(self, sender: str, size: int) -> None:
        self._of[sender] += size
        if not self._of[sender]:
            del self._of[sender]

    def _count(self, sender: str, size: int) -> None:
        self._add(sender, size)
        self.bytes += size
        self._telemetry.under_way_bytes.set(self.bytes)


class Admit:
    """Refuses requests with bodies while too many bytes are under way.

    In front of everything that costs time, so it answers every protocol alike: a problem, with the
    status and `Retry-After` that all senders understand.
    """

    def __init__(self, app: ASGIApp, under_way: UnderWay) -> None:
        self._app = app
        self._under_way = under_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        sender = _sender_of(HTTPConnection(scope))
        try:
            self._under_way.begin(sender)
        except Overloaded as error:
            await to_response(error)(scope, receive, send)
        else:
            await self._admit(sender, scope, receive, send)

    async def _admit(self, sender: str, scope: Scope, receive: Receive, send: Send) -> None:
        under_way = self._under_way
        size = held = 0
        received_at: float | None = None

        async def counting() -> Message:
            nonlocal size, received_at
            message = await receive()
            piece = len(message.get("body", b""))
            under_way.receive(sender, piece, size, held)
            size += piece
            if message["type"] == "http.request" and not message.get("more_body", False):
                received_at = monotonic()
            return message

        def hold(more: int) -> None:
            nonlocal held
            under_way.hold(sender, more, size + held)
            held += more

        async def learning(message: Message) -> None:
            if message["type"] == "http.response.start" and received_at is not None:
                under_way.answer(size, monotonic() - received_at)
            await send(message)

        scope[HOLD] = hold
        try:
            await self._app(scope, counting, learning)
        finally:
            under_way.leave(sender, size, held)


def _sender_of(connection: HTTPConnection) -> str:
    """The key that comes along: nothing of a body is read before it is known to be right."""
    return find_credential(connection) or origin_of(connection)
