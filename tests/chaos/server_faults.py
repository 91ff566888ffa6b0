"""The server is killed, stopped and replaced under load."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic

import pytest
from chaos.load import Load, sending
from chaos.servers import DOOMED, Server
from chaos.world import Outcome, World
from nginx import ABSENT, NGINX, nginx_before

FEWEST_COMMITS, MOST_COMMITS = 50, 150
"""Enough for every agent to be acknowledged before the next death."""

FOR_EVER = "0"


async def kill_the_api(world: World, rounds: int) -> Outcome:
    """SIGKILL in the middle of whatever it does."""
    async with Server.running(world.url) as server:
        async with sending("killed", server.url) as load:
            for _ in range(rounds):
                began_at = monotonic()
                await server.kill()
                await server.start()
                await load.recover(began_at)
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def lose_answers(world: World, rounds: int) -> Outcome:
    """It dies between a commit and its answers, so agents send what is stored already."""
    chance = Random(rounds)
    first, *others = (str(chance.randint(FEWEST_COMMITS, MOST_COMMITS)) for _ in range(rounds))
    async with Server.running(world.url, program=(DOOMED,), DOOMED_COMMITS=first) as server:
        async with sending("unanswered", server.url) as load:
            for lifetime in (*others, FOR_EVER):
                await server.die()
                began_at = monotonic()
                server.variables["DOOMED_COMMITS"] = lifetime
                await server.start()
                await load.recover(began_at)
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def stop_under_load(world: World, rounds: int) -> Outcome:
    """SIGTERM: running requests are answered, and the next server takes over."""
    async with Server.running(world.url) as server:
        async with sending("stopped", server.url) as load:
            for _ in range(rounds):
                began_at = monotonic()
                await server.stop()
                await server.start()
                await load.recover(began_at)
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def restart_one_after_the_other(world: World, rounds: int) -> Outcome:
    """Two servers, of which one is there at any time; agents turn to the other."""
    async with Server.running(world.url) as one, Server.running(world.url) as other:
        async with sending("rolled", one.url, other.url) as load:
            await _replace((one, other) * rounds, load)
        return await Outcome.of(load, world, one.url, rounds=rounds)


async def restart_them_behind_nginx(world: World, rounds: int) -> Outcome:
    """The same, but agents know of nginx alone, as deployed, which turns to the other for them."""
    if NGINX is None:
        pytest.skip(ABSENT)
    open_to_nginx = {"INFRAWATCH_AUTH": "off-and-i-know-it-is-open"}
    with TemporaryDirectory(prefix="infrawatch-nginx-") as directory:
        async with (
            Server.running(world.url, **open_to_nginx) as one,
            Server.running(world.url, **open_to_nginx) as other,
            nginx_before([one.url, other.url], Path(directory)) as url,
        ):
            async with sending("proxied", url) as load:
                await _replace((one, other) * rounds, load)
            return await Outcome.of(load, world, one.url, rounds=rounds)


async def restart_its_workers(world: World, rounds: int) -> Outcome:
    """One server of two processes, which replaces each of them in turn: SIGHUP."""
    async with Server.running(world.url, INFRAWATCH_WORKERS="2") as server:
        async with sending("reworked", server.url) as load:
            for _ in range(rounds):
                await server.replace_workers()
                await load.recover()
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def _replace(servers: Sequence[Server], load: Load) -> None:
    for server in servers:
        began_at = monotonic()
        await server.stop()
        await load.recover(began_at)
        await server.start()
