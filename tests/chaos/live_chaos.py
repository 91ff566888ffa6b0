"""Live under fire: whatever is killed, every viewer ends up with exactly what was committed.

    python tests/chaos/live_chaos.py --seconds 60 --compact-every 5

Five writers send to three server processes with Redis between them; the model is what the
servers have acknowledged. Viewers move from server to server and resume. Meanwhile servers are
killed (SIGKILL), Redis is killed or hangs (SIGSTOP), connections are cut and viewers replaced.
If told to, the store is compacted again and again, and in the middle the journal is emptied, too.
"""

import argparse
import asyncio
import os
import random
import re
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
from scripted_server import eventually
from viewing import Picture, Viewing, now_ms
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from infrawatch.embedded.postgres import postgres_running
from infrawatch.embedded.valkey import valkey_running
from infrawatch.errors import Unavailable
from infrawatch.store.database import Database
from infrawatch.store.migrations import upgrade
from infrawatch.upkeep import compaction

SERVERS = 3
WRITERS = 5
VIEWERS = 9
SELECTORS = {
    "chaos": re.compile(""),
    'chaos{writer="1"}': re.compile("writer=1"),
    'chaos{writer=~"[234]"}': re.compile("writer=[234]"),
    'chaos{part!="0"}': re.compile("part=[^0]"),
}
"""What viewers ask for, and which names of the model that means."""

STARTED_WITHIN_S = 120
SETTLED_WITHIN_S = 120
TOLD_OF_WRONG = 5

Model = dict[tuple[str, int], float]
"""Value by series and time."""


@dataclass(slots=True)
class Outcome:
    """What came of it: the first three have to be 0."""

    missing: int = 0
    invented: int = 0
    out_of_order: int = 0
    samples: int = 0
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Some of it, in words."""


class Server:
    """One process that is started again when it was killed."""

    def __init__(self, port: int, environment: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = ("serve", "--port", str(port))
        self._environment = environment
        self.process: Process | None = None

    async def run(self) -> None:
        try:
            while True:
                self.process = await _infrawatch(*self._command, environment=self._environment)
                await self.process.wait()
        finally:
            if self.process is not None and self.process.returncode is None:
                self.process.terminate()
                await self.process.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()


class Writer:
    """Sends a batch again, to any server, until it is acknowledged."""

    def __init__(self, number: int, servers: Sequence[Server], luck: random.Random) -> None:
        self._number = number
        self._servers = servers
        self._luck = luck
        self._sent = 0
        self._start_ms = now_ms() - 600_000
        self.committed: Model = {}
        self.is_stopped = False

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=5, verify=False) as client:
            while not self.is_stopped:
                batch = self._next_batch()
                await self._send(client, batch)
                self.committed |= batch
                await asyncio.sleep(self._luck.uniform(0, 0.05))

    def _next_batch(self) -> Model:
        """New samples, now and then of a new series; and other values for a few old times."""
        part = self._sent // 200 % 5
        name = f"chaos{{part={part},writer={self._number}}}"
        batch: Model = {}
        for _ in range(self._luck.randint(1, 5)):
            self._sent += 1
            batch[name, self._start_ms + self._sent] = float(self._sent)
        for key in self._luck.sample(sorted(self.committed), min(len(self.committed), 1)):
            batch[key] = self.committed[key] + 0.5
        return batch

    async def _send(self, client: httpx.AsyncClient, batch: Model) -> None:
        samples: dict[str, list[tuple[int, float]]] = {}
        for (name, time), value in batch.items():
            samples.setdefault(name, []).append((time, value))
        series = [
            {"metric": "chaos", "labels": _labels(name), "samples": told}
            for name, told in samples.items()
        ]
        while True:
            with suppress(httpx.HTTPError):
                url = self._luck.choice(self._servers).url
                answer = await client.post(f"{url}/v1/samples", json={"series": series})
                if answer.status_code == httpx.codes.OK:
                    return
                assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            await asyncio.sleep(0.05)


class Viewer:
    """Follows one selector wherever it can, going on where it was."""

    def __init__(self, selector: str, servers: Sequence[Server], luck: random.Random) -> None:
        self.selector = selector
        self.picture = Picture()
        self._servers = servers
        self._luck = luck
        self._connection: Viewing | None = None

    async def run(self) -> None:
        while True:
            with suppress(OSError, TimeoutError, WebSocketException):
                address = self._luck.choice(self._servers).url.replace("http", "ws", 1)
                async with connect(
                    f"{address}/v1/live", max_size=None, proxy=None, open_timeout=3
                ) as connection:
                    self._connection = Viewing(connection)
                    await self._follow(self._connection)
            await asyncio.sleep(0.02)

    async def _follow(self, connection: Viewing) -> None:
        every_ms = self._luck.choice([None, 100, 500])
        connection.pictures["a"] = self.picture
        frame = {"type": "subscribe", "id": "a", "match": self.selector, "since": "-1h"}
        await connection.send(frame | {"resume": self.picture.cursor, "every_ms": every_ms})
        while True:
            assert (await connection.next("update", "snapshot", "error"))["type"] != "error"
            connection.frames.clear()

    def cut(self) -> None:
        if self._connection is not None:
            self._connection.connection.transport.abort()


class Storm:
    """Everything that runs, and what is done to it."""

    def __init__(self, database_url: str, redis_url: str, seed: int) -> None:
        self._luck = random.Random(seed)
        self._environment = os.environ | {
            "INFRAWATCH_DATABASE_URL": database_url,
            "INFRAWATCH_REDIS_URL": redis_url,
            "INFRAWATCH_LOG_LEVEL": "error",
        }
        self.servers = [Server(port, self._environment) for port in _free_ports(SERVERS)]
        self.writers = [Writer(n, self.servers, self._luck) for n in range(WRITERS)]
        self.viewers: dict[Viewer, asyncio.Task[None]] = {}
        self.outcome = Outcome()

    async def run(self, seconds: float, compact_every_s: float | None) -> Outcome:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(server.run()) for server in self.servers]
            try:
                await self._until_all_answer()
                writing = [tasks.create_task(writer.run()) for writer in self.writers]
                for number in range(VIEWERS):
                    self._join(tasks, list(SELECTORS)[number % len(SELECTORS)])
                if compact_every_s is not None:
                    running.append(tasks.create_task(self._compact(compact_every_s)))
                    running.append(tasks.create_task(self._compact_all(seconds / 2)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._rage(tasks)
                for writer in self.writers:
                    writer.is_stopped = True
                await asyncio.wait(writing)
                await self._settle()
                self._judge()
            finally:
                for task in (*running, *self.viewers.values()):
                    task.cancel()
        return self.outcome

    def committed(self, selector: str) -> Model:
        """What a viewer of a selector has to have in the end."""
        every = {key: value for one in self.writers for key, value in one.committed.items()}
        wanted = SELECTORS[selector]
        return {key: value for key, value in every.items() if wanted.search(key[0])}

    def _join(self, tasks: asyncio.TaskGroup, selector: str) -> None:
        viewer = Viewer(selector, self.servers, self._luck)
        self.viewers[viewer] = tasks.create_task(viewer.run())

    async def _rage(self, tasks: asyncio.TaskGroup) -> None:
        deeds = {
            "cut a connection": 80,
            "replace a viewer": 30,
            "kill a server": 20,
            "hang Redis": 8,
            "kill Redis": 4,
        }
        while True:
            await asyncio.sleep(self._luck.uniform(0.05, 0.6))
            [deed] = self._luck.choices(list(deeds), list(deeds.values()))
            self.outcome.done[deed] += 1
            viewer = self._luck.choice(list(self.viewers))
            match deed:
                case "cut a connection":
                    viewer.cut()
                case "replace a viewer":
                    self.viewers.pop(viewer).cancel()
                    self._join(tasks, viewer.selector)
                case "kill a server":
                    self._luck.choice(self.servers).kill()
                case "kill Redis":
                    _kill_redis()
                case "hang Redis":
                    await _hang_redis(self._luck.uniform(0.2, 2))

    async def _compact(self, every_s: float) -> None:
        """Compact again and again."""
        async with Database.open(self._environment["INFRAWATCH_DATABASE_URL"]) as database:
            while True:
                await asyncio.sleep(every_s)
                with suppress(Unavailable):
                    await compaction.compact_until(database, datetime.now(UTC))
                    self.outcome.done["compact"] += 1

    async def _compact_all(self, after_s: float) -> None:
        """Once, as from a terminal: the journal is emptied, too."""
        await asyncio.sleep(after_s)
        process = await _infrawatch("compact", "--all", environment=self._environment)
        try:
            self.outcome.done["compact --all"] += await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _until_all_answer(self) -> None:
        async with asyncio.timeout(STARTED_WITHIN_S), httpx.AsyncClient(verify=False) as client:
            for server in self.servers:
                while True:
                    with suppress(httpx.HTTPError):
                        if (await client.get(f"{server.url}/readyz")).is_success:
                            break
                    await asyncio.sleep(0.1)

    async def _settle(self) -> None:
        """Wait until every viewer has everything; what is not there then is missing."""
        with suppress(TimeoutError):
            await eventually(self._is_settled, within_s=SETTLED_WITHIN_S)

    def _is_settled(self) -> bool:
        committed = {selector: self.committed(selector) for selector in SELECTORS}
        return all(one.picture.samples == committed[one.selector] for one in self.viewers)

    def _judge(self) -> None:
        self.outcome.samples = len(self.committed("chaos"))
        for viewer in self.viewers:
            seen, committed = viewer.picture.samples, self.committed(viewer.selector)
            self.outcome.missing += len(committed.keys() - seen.keys())
            self.outcome.invented += len(seen.keys() - committed.keys())
            both = committed.keys() & seen.keys()
            replaced = [key for key in both if seen[key] != committed[key]]
            self.outcome.out_of_order += len(replaced)
            self.outcome.wrong += [
                f"{viewer.selector}: {key} is {seen[key]}, committed was {committed[key]}"
                for key in replaced[:TOLD_OF_WRONG]
            ]
            self.outcome.done["gaps"] += len(viewer.picture.gaps)


async def _infrawatch(*command: str, environment: dict[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", *command), stdout=DEVNULL, env=environment
    )


def _labels(name: str) -> dict[str, str]:
    inside = name.partition("{")[2].rstrip("}")
    return dict(pair.split("=") for pair in inside.split(","))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


def _redis() -> psutil.Process | None:
    """The one we started, unless it is being started again."""
    children = psutil.Process().children(recursive=True)
    return next((one for one in children if one.name() == "valkey-server"), None)


def _kill_redis() -> None:
    if (redis := _redis()) is not None:
        redis.kill()


async def _hang_redis(seconds: float) -> None:
    if (redis := _redis()) is not None:
        redis.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            redis.resume()


async def chaos(
    database_url: str,
    home: Path,
    *,
    seconds: float,
    seed: int,
    compact_every_s: float | None = None,
) -> Outcome:
    """Rage for so long on a database of our own; `home` is for Redis."""
    async with valkey_running(home) as redis_url:
        return await Storm(database_url, redis_url, seed).run(seconds, compact_every_s)


async def main(home: Path, told: argparse.Namespace) -> None:
    """Run it on a PostgreSQL of its own, and say what came of it."""
    async with postgres_running(home / "postgres") as postgres:
        url = postgres.endpoint.url()
        await upgrade(url)
        outcome = await chaos(
            url,
            home / "redis",
            seconds=told.seconds,
            seed=told.seed,
            compact_every_s=told.compact_every,
        )
    print(f"seed {told.seed}, {told.seconds:g} s: {outcome.samples} samples committed")
    for what, times in outcome.done.most_common():
        print(f"  {what:<18}{times:>5}")
    for what in ("missing", "invented", "out_of_order"):
        print(f"  {what.replace('_', ' '):<18}{getattr(outcome, what):>5}")
    print(*outcome.wrong, sep="\n")
    if outcome.missing or outcome.invented or outcome.out_of_order:
        sys.exit("viewers did not get what was committed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--compact-every", type=float, help="seconds; not at all without it")
    with tempfile.TemporaryDirectory(prefix="infrawatch-chaos-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL enters it as another user
        asyncio.run(main(Path(directory), parser.parse_args()))
