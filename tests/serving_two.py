"""Two servers on one database, and what they commit as a viewer sees it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from httpx import AsyncClient
from serving_live import live_server
from viewing import Picture, Viewing, now_ms, push, until


@asynccontextmanager
async def two_servers(
    database_url: str, redis_url: str | None
) -> AsyncGenerator[tuple[str, str], None]:
    """Run them until the block ends; gives their base URLs."""
    async with (
        live_server(database_url, redis_url=redis_url) as one,
        live_server(database_url, redis_url=redis_url) as two,
    ):
        yield one, two


async def details(url: str) -> dict[str, str]:
    """How a server says that it is."""
    async with AsyncClient(base_url=url, verify=False, timeout=30) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200  # Redis is optional
    found: dict[str, str] = answer.json()["details"]
    return found


async def until_bus(url: str, how: str) -> None:
    """Wait until a server, which has viewers, describes its bus so."""

    async def is_so() -> bool:
        return how in (await details(url))["bus"]

    await until(is_so)


async def push_and_see(
    servers: tuple[str, str], viewer: Viewing, picture: Picture, numbers: range
) -> None:
    """Each server commits some; the viewer gets them all."""
    now = now_ms()
    for number in numbers:
        await push(servers[number % 2], "m", [(now + number, number)], writer=str(number % 2))
    await viewer.until(lambda: set(numbers) <= set(picture.values()))
