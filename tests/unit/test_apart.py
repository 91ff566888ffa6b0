"""Few threads, a bounded queue before them, and none that is free before its work has ended."""

import asyncio
import threading

import pytest
from told_server import eventually

from infrawatch.errors import Overloaded
from infrawatch.ingest.apart import MOST_WAITING, THREADS, Apart

DEADLINE_S = 20


class Gates:
    """Work that counts itself and ends when it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def work(self) -> int:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.let_go.wait(DEADLINE_S)
        with self._lock:
            self.running -= 1
        return threading.get_ident()


async def test_so_many_work_at_a_time_so_many_wait_and_the_next_is_told_to_come_back() -> None:
    apart, gates = Apart(), Gates()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        works = [tasks.create_task(apart.run(gates.work)) for _ in range(THREADS + MOST_WAITING)]
        await eventually(lambda: gates.running == THREADS)

        with pytest.raises(Overloaded):
            await apart.run(gates.work)
        gates.let_go.set()

    assert gates.most == THREADS
    assert threading.get_ident() not in {work.result() for work in works}


async def test_work_that_nobody_waits_for_any_more_still_keeps_its_thread() -> None:
    apart, gates = Apart(), Gates()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        works = [tasks.create_task(apart.run(gates.work)) for _ in range(THREADS)]
        await eventually(lambda: gates.running == THREADS)
        for work in works:
            work.cancel()
        await asyncio.wait(works)
        following = tasks.create_task(apart.run(gates.work))
        await asyncio.sleep(0)

        assert gates.running == THREADS
        assert not following.done()
        gates.let_go.set()

    assert gates.most == THREADS


async def test_only_what_is_large_is_read_apart() -> None:
    def where(_body: bytes) -> int:
        return threading.get_ident()

    apart = Apart()

    assert await apart.decode(where, 3, b"abc") == threading.get_ident()
    assert await apart.decode(where, 3, b"abcd") != threading.get_ident()
