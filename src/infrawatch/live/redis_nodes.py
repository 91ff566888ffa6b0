"""Finds the Redis server, or the node of a cluster, that carries the bus's channel."""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.crc import key_slot
from redis.exceptions import RedisError

from infrawatch.access.limits.redis_client import redis_client
from infrawatch.errors import CannotStart, Unavailable

_PATIENCE_S = 3.0
"""Whether Redis answers at all: on a busy machine, a first connection alone may take longer than a
server waits for anything."""

REDIS_ERRORS = (RedisError, OSError, TimeoutError)
"""Errors of a server that is unreachable, hangs or refuses."""


class ChannelNode(NamedTuple):
    """A connection to the server, or the node of a cluster, that carries a channel."""

    redis: Redis
    channel: str
    is_cluster: bool

    async def reaches(self, packed: bytes) -> bool:
        """Publish a message; returns whether it reached a listener."""
        publish = self.redis.spublish if self.is_cluster else self.redis.publish
        return bool(await publish(self.channel, packed))

    async def subscribe(self, pubsub: PubSub) -> None:
        await (pubsub.ssubscribe if self.is_cluster else pubsub.subscribe)(self.channel)


class NodeFinder:
    """Finds the node that carries a channel, anew for each connection: in a cluster channels move.

    redis-py's client for clusters does so too, but does not notice a node that hangs.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._nodes = deque([url])
        """Nodes to ask, in turn: the one at the URL may be down while the cluster is not."""

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[ChannelNode, None]:
        """A connection for as long as the block lasts.

        Raises:
            RedisError, OSError, TimeoutError: the node asked does not know or answer; the next call
                asks another one.
        """
        url = self._nodes[0]
        try:
            async with redis_client(url) as redis:
                owner = await self._find_owner(redis)
        except REDIS_ERRORS:
            self._nodes.rotate(-1)
            raise
        async with redis_client(owner or url) as redis:
            yield ChannelNode(redis, self._channel, is_cluster=owner is not None)

    async def _find_owner(self, node: Redis) -> str | None:
        """The URL of the node that owns the channel's slot; None if there is no cluster."""
        if not (await node.info("cluster")).get("cluster_enabled"):
            return None
        slot = key_slot(self._channel.encode())
        owner = None
        known = [self._nodes[0], self._url]
        slots = await node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        for start, end, *nodes in slots:
            urls = [self._url_of(host, port) for host, port, *_ in nodes]
            known += urls
            if start <= slot <= end:
                owner = urls[0]  # the primary
        if owner is None:
            raise RedisError(f"no node of the cluster has slot {slot}")
        self._nodes = deque(dict.fromkeys(known))
        return owner

    def _url_of(self, host: bytes | None, port: int) -> str:
        """The asked node's URL with another host and port; without a host, with the asked one's."""
        parts = urlsplit(self._nodes[0])
        account, at, _ = parts.netloc.rpartition("@")
        name = host.decode() if host else parts.hostname or ""
        name = f"[{name}]" if ":" in name else name
        return urlunsplit(parts._replace(netloc=f"{account}{at}{name}:{port}"))


async def ping(url: str) -> None:
    """Check that Redis answers.

    Raises:
        Unavailable: Redis does not answer, or denies access.
        CannotStart: `url` is not the URL of a Redis.
    """
    try:
        async with redis_client(url, timeout_s=_PATIENCE_S) as redis:
            await redis.ping()
    except ValueError as error:
        raise CannotStart(f"That is not the URL of a Redis ({error})") from None
    except REDIS_ERRORS as error:
        raise Unavailable(f"It does not answer ({str(error) or type(error).__name__})") from error
