"""How Redis is spoken to: with little patience, since nothing depends on it."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_S = 0.25
"""redis-py's own defaults let a hung server block a command for a minute."""


def redis_client(url: str) -> Redis:
    """A client that connects when it is first used, and is closed as a context manager.

    Raises:
        ValueError: that is no URL of a Redis.
    """
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )
