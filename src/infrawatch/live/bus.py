"""The bus: carries entries between processes over Redis pub/sub; the journal covers its losses."""

import asyncio
import struct
from collections import deque
from collections.abc import Callable

import numpy as np
import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from infrawatch.access.limits.redis_client import TIMEOUT_S
from infrawatch.live.hub import Hub
from infrawatch.live.redis_nodes import REDIS_ERRORS, ChannelNode, NodeFinder
from infrawatch.model.samples import Columns
from infrawatch.store.journal import Entry
from infrawatch.telemetry import Telemetry

log = structlog.get_logger()

CHANNEL = "infrawatch:entries:{epoch}"
"""One channel per database: two installations may share a Redis."""

RECONNECT_S = 1.0
SILENT_S = 1.0
"""How long publishing pauses after an entry reached no listener; listeners poll as often."""

MAX_WAITING = 100

_HEAD = struct.Struct("<qqqq")
_COLUMN_TYPES = ("<i8", "<i8", "<f8")


class Bus:
    """Publishes this process's entries, and passes on those of all processes, its own included.

    Publishing never blocks and never fails: entries that find no room or no Redis are left to the
    journal. The bus listens while the hub is active: without viewers anywhere, hardly any entry is
    published.
    """

    def __init__(
        self,
        url: str,
        epoch: str,
        telemetry: Telemetry,
        hub: Hub,
        on_entry: Callable[[Entry], None],
    ) -> None:
        self._url = url
        self._channel = CHANNEL.format(epoch=epoch)
        self._telemetry = telemetry
        self._hub = hub
        self._on_entry = on_entry
        self._outgoing: deque[Entry] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._logged: set[str] = set()  # why Redis was lost, since it was last connected
        self.is_connected = False

    def publish(self, entry: Entry) -> None:
        self._outgoing.append(entry)
        self._arrived.set()

    def describe(self) -> str:
        """A human-readable status."""
        if self.is_connected:
            return "connected"
        if not self._hub.is_active:
            return "not needed, because nobody watches here"
        return "Redis does not answer; viewers get what the journal has, up to a second later"

    async def run_publishing(self) -> None:
        """Send published entries to Redis, forever."""
        finder = NodeFinder(self._url, self._channel)
        while True:
            try:
                async with finder.connected() as node:
                    await self._publish(node)
            except REDIS_ERRORS:
                self._telemetry.bus_errors.inc()
            await asyncio.sleep(RECONNECT_S)
            self._outgoing.clear()  # other processes have read them from the journal

    async def run_listening(self) -> None:
        """Pass on arriving entries while the hub is active, forever; reconnects when needed."""
        finder = NodeFinder(self._url, self._channel)
        while True:
            await self._hub.until_active()
            try:
                async with finder.connected() as node:
                    await self._listen(node)
            except REDIS_ERRORS as error:
                self._log_loss(str(error) or type(error).__name__)
                self._telemetry.bus_errors.inc()
                self.is_connected = False
                await asyncio.sleep(RECONNECT_S)
            self.is_connected = False

    async def _publish(self, node: ChannelNode) -> None:
        silent_until = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._outgoing:
                entry = self._outgoing.popleft()
                if clock() >= silent_until and not await node.reaches(pack(entry)):
                    silent_until = clock() + SILENT_S

    async def _listen(self, node: ChannelNode) -> None:
        async with node.redis.pubsub() as pubsub:
            await node.subscribe(pubsub)
            while self._hub.is_active:
                message = await self._next_message(pubsub)
                if message["type"] == "sunsubscribe":  # unrequested
                    raise RedisError("another node has the channel now")
                if not self.is_connected:
                    log.info("bus_connected")
                    self.is_connected = True
                    self._logged.clear()
                if message["type"] in ("message", "smessage"):
                    self._take(message["data"])

    def _log_loss(self, reason: str) -> None:
        """Log each reason once, as attempts go on every second."""
        if reason not in self._logged:
            self._logged.add(reason)
            log.warning("bus_lost", reason=reason)

    def _take(self, packed: object) -> None:
        try:
            entry = unpack(packed)
        except ValueError as error:
            log.warning("bus_message_invalid", reason=str(error))
            self._telemetry.bus_errors.inc()
        else:
            self._on_entry(entry)

    async def _next_message(self, pubsub: PubSub) -> dict[str, object]:
        """The next message, which may be the reply to a ping.

        Raises:
            TimeoutError: no message came, not even the reply to a ping: the server hangs.
        """
        for timeout_s in (SILENT_S, TIMEOUT_S):
            message: dict[str, object] | None = await pubsub.get_message(timeout=timeout_s)
            if message is not None:
                return message
            async with asyncio.timeout(TIMEOUT_S):
                await pubsub.ping()
        raise TimeoutError("Redis does not answer")


def pack(entry: Entry) -> bytes:
    """Encode writer, seq, arrival and number of samples, then three columns, little-endian."""
    columns = entry.columns
    head = _HEAD.pack(entry.writer, entry.seq, entry.at_us, len(columns))
    return b"".join((head, *(np.ascontiguousarray(one).tobytes() for one in columns)))


def unpack(packed: object) -> Entry:
    """Decode the result of `pack`.

    Raises:
        ValueError: `packed` was not made by `pack`.
    """
    if not isinstance(packed, bytes) or len(packed) < _HEAD.size:
        raise ValueError("too short to be an entry")
    writer, seq, at_us, count = _HEAD.unpack_from(packed)
    if len(packed) != _HEAD.size + 8 * count * len(_COLUMN_TYPES):
        raise ValueError("its length is not that of an entry")
    ids, times, values = (
        np.frombuffer(packed, dtype, count, _HEAD.size + place * 8 * count)
        for place, dtype in enumerate(_COLUMN_TYPES)
    )
    return Entry(writer, seq, at_us, Columns(ids, times, values))
