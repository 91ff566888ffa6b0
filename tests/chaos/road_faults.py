"""The road between the server and PostgreSQL is long, breaks, or leads nowhere."""

import asyncio
from time import monotonic

from chaos.load import sending
from chaos.servers import Server
from chaos.world import Outcome, World
from database_proxy import Road

LATENCY_S = 0.05


async def make_it_long(world: World, rounds: int) -> Outcome:
    """Everything takes a while, there and back."""
    async with Server.running(world.proxy.url) as server:
        async with sending("far", server.url) as load:
            for _ in range(rounds):
                began_at = monotonic()
                world.proxy.delay_s = LATENCY_S
                await load.recover(began_at)
                await asyncio.sleep(1)
                await load.recover()
                world.proxy.delay_s = 0
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def reset_connections(world: World, rounds: int) -> Outcome:
    """Every connection there is, wherever it stands."""
    async with Server.running(world.proxy.url) as server:
        async with sending("reset", server.url) as load:
            for _ in range(rounds):
                began_at = monotonic()
                world.proxy.close()
                world.proxy.road = Road.OPEN
                await load.recover(began_at)
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def swallow_everything(
    world: World, rounds: int, *, seconds: float, write_deadline: str = "10s"
) -> Outcome:
    """What is sent meanwhile is lost, and connections that stood then are dead for good."""
    async with Server.running(world.proxy.url, INFRAWATCH_WRITE_DEADLINE=write_deadline) as server:
        async with sending("swallowed", server.url) as load:
            for _ in range(rounds):
                world.proxy.road = Road.SILENT
                await asyncio.sleep(seconds)
                world.proxy.road = Road.OPEN
                await load.recover()
        return await Outcome.of(load, world, server.url, rounds=rounds)
