"""Redis clients, with short timeouts, since nothing depends on Redis."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_S = 0.25
"""redis-py's own defaults let a hung server block a command for a minute."""


def redis_client(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """Return a client that connects on first use, and is closed as a context manager.

    Raises:
        ValueError: `url` is not the URL of a Redis server.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
    )
