"""Two servers with a Redis cluster between them, whose nodes hang and whose slots move."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import execute
from redis_cluster import Cluster, Node, cluster_running
from serving_two import push_and_see, two_servers, until_bus
from viewing import Picture, Viewing, now_ms, push, until, viewing

from infrawatch.live.bus import CHANNEL
from infrawatch.live.redis_nodes import REDIS_ERRORS, NodeFinder


@dataclass(frozen=True, slots=True)
class Watched:
    """Two servers, who find the cluster at its first node, and a viewer of the first server."""

    cluster: Cluster
    servers: tuple[str, str]
    viewer: Viewing
    picture: Picture
    channel: str

    async def see(self, numbers: range) -> None:
        await push_and_see(self.servers, self.viewer, self.picture, numbers)

    async def until_bus(self, how: str) -> None:
        await until_bus(self.servers[0], how)

    async def until_subscribed(self, node: Node) -> None:
        """Wait until the server that has a viewer listens at a node."""

        async def is_so() -> bool:
            answer = await node.say("PUBSUB", "SHARDNUMSUB", self.channel)
            return re.search(r"\D1\W*$", answer) is not None  # the channel, and how many

        await until(is_so)


@asynccontextmanager
async def watched(database_url: str, home: Path, *, nodes: int) -> AsyncGenerator[Watched, None]:
    channel = CHANNEL.format(epoch=execute(database_url, "SELECT epoch FROM installation"))
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(cluster_running(home, nodes=nodes))
        url = cluster.nodes[0].url
        servers = await stack.enter_async_context(two_servers(database_url, url))
        viewer = await stack.enter_async_context(viewing(servers[0]))
        picture = await viewer.subscribe("m")
        yield Watched(cluster, servers, viewer, picture, channel)


async def test_in_a_cluster_only_the_node_of_the_channel_is_used(
    database_url: str, temporary_root: Path
) -> None:
    now = now_ms()
    async with watched(database_url, temporary_root / "one-node", nodes=1) as seen:
        [node] = seen.cluster.nodes
        await seen.until_subscribed(node)
        waits = []
        loop = asyncio.get_running_loop()
        for number in range(10):
            await push(seen.servers[1], "m", [(now + number, number)])
            committed = loop.time()
            await seen.viewer.until_there_are(seen.picture, number + 1)
            waits.append(loop.time() - committed)
        assert "cmdstat_spublish" in await node.say("INFO", "commandstats")
    assert sorted(waits)[5] < 0.5  # the poll comes once a second


async def test_a_node_that_hangs_costs_no_sample(database_url: str, temporary_root: Path) -> None:
    async with watched(database_url, temporary_root / "hung-node", nodes=1) as seen:
        hung = psutil.Process(seen.cluster.nodes[0].process.pid)
        hung.suspend()
        try:
            await seen.see(range(10))
            await seen.until_bus("does not answer")
            await seen.see(range(10, 20))
        finally:
            hung.resume()
        await seen.until_bus("connected")
        await seen.see(range(20, 30))
    assert sorted(seen.picture.values()) == list(range(30))
    assert seen.picture.gaps == []


async def test_a_channel_that_moves_to_another_node_is_followed(
    database_url: str, temporary_root: Path
) -> None:
    async with watched(database_url, temporary_root / "two-nodes", nodes=2) as seen:
        first, second = seen.cluster.nodes
        await seen.until_subscribed(first)
        await seen.see(range(10))
        await seen.cluster.move(seen.channel, to=second)
        await seen.see(range(10, 20))
        await seen.until_subscribed(second)
        await seen.see(range(20, 30))

        first.process.kill()  # the one at our URL; the channel is elsewhere
        await seen.see(range(30, 40))
    assert sorted(seen.picture.values()) == list(range(40))
    assert seen.picture.gaps == []


async def test_another_node_is_asked_when_the_configured_one_is_unreachable(
    temporary_root: Path,
) -> None:
    async with cluster_running(temporary_root / "asked-node", nodes=2) as cluster:
        first, second = cluster.nodes
        await cluster.move("channel", to=second)
        finder = NodeFinder(first.url, "channel")
        async with finder.connected() as node:
            assert node.is_cluster
            assert not await node.reaches(b"nobody listens")
        first.process.kill()
        await first.process.wait()
        with pytest.raises(REDIS_ERRORS):
            await finder.connected().__aenter__()
        async with finder.connected() as node:
            assert not await node.reaches(b"nobody listens")
