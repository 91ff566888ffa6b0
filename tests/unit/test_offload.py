"""Few threads, a bounded queue before them, and none that is free before its work has ended."""

import asyncio
import threading

import pytest
from scripted_server import eventually

from infrawatch.errors import MalformedBody, Overloaded
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.scheduling.offload import MAX_WAITING, THREADS, Offload

DEADLINE_S = 60


def nobody(_tenant_id: int) -> bool:
    return False


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


async def test_a_tenant_runs_one_job_some_wait_and_further_ones_are_refused() -> None:
    offload, gates = Offload(nobody), Gates()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        works = [tasks.create_task(offload.run(1, gates.work)) for _ in range(1 + MAX_WAITING)]
        await eventually(lambda: gates.running == 1)

        with pytest.raises(Overloaded):
            await offload.run(1, gates.work)
        gates.let_go.set()

    assert gates.most == 1
    assert threading.get_ident() not in {work.result() for work in works}


async def test_one_tenant_keeps_no_other_waiting() -> None:
    offload, flood, others = Offload(nobody), Gates(), Gates()
    others.let_go.set()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        works = [tasks.create_task(offload.run(1, flood.work)) for _ in range(1 + MAX_WAITING)]
        await eventually(lambda: flood.running == 1)

        await offload.run(2, others.work)
        assert not any(work.done() for work in works)
        flood.let_go.set()


async def test_no_more_work_runs_than_there_are_threads() -> None:
    offload, gates = Offload(nobody), Gates()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        for tenant_id in range(3 * THREADS):
            tasks.create_task(offload.run(tenant_id, gates.work))
        await eventually(lambda: gates.running == THREADS)
        gates.let_go.set()

    assert gates.most == THREADS


async def test_abandoned_work_keeps_its_thread_until_it_ends() -> None:
    offload, gates = Offload(nobody), Gates()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        works = [tasks.create_task(offload.run(one, gates.work)) for one in range(THREADS)]
        waits = tasks.create_task(offload.run(0, gates.work))
        await eventually(lambda: gates.running == THREADS)
        for work in (*works, waits):
            work.cancel()
        await asyncio.wait([*works, waits])
        following = tasks.create_task(offload.run(THREADS, gates.work))
        again = tasks.create_task(offload.run(0, gates.work))
        await asyncio.sleep(0)

        assert gates.running == THREADS
        assert not following.done()
        assert not again.done()
        gates.let_go.set()

    assert gates.most == THREADS


async def test_only_long_bodies_are_read_in_a_thread() -> None:
    def where(body: bytes, *, on_loop: bool = False) -> int:
        check_budget(on_loop=on_loop, is_long=len(body) > 3)
        return threading.get_ident()

    offload = Offload(nobody)

    assert await offload.read(1, where, b"abc") == threading.get_ident()
    assert await offload.read(1, where, b"abcd") != threading.get_ident()


async def test_errors_in_a_body_are_the_same_wherever_it_is_read() -> None:
    def refuse(body: bytes, *, on_loop: bool = False) -> None:
        check_budget(on_loop=on_loop, is_long=len(body) > 3)
        raise MalformedBody("no body at all")

    for body in (b"abc", b"abcd"):
        with pytest.raises(MalformedBody):
            await Offload(nobody).read(1, refuse, body)


async def test_bodies_of_a_flooded_tenant_are_read_in_threads_with_pauses() -> None:
    offload = Offload(lambda tenant_id: tenant_id == 1)
    here = threading.get_ident()

    def where(body: bytes, *, on_loop: bool = False) -> int:
        assert body
        assert on_loop == (threading.get_ident() == here)
        return threading.get_ident()

    read_by = {
        (tenant_id, size): await offload.read(tenant_id, where, size * b"x")
        for tenant_id in (1, 2)
        for size in (1_000, 100_000)
    }
    again = await offload.read(1, where, 100_000 * b"x")

    assert read_by.pop((1, 100_000)) != here
    assert set(read_by.values()) == {here}
    assert again != here, "its turn comes again"
