"""Work that can wait is done a piece at a time, rests, and is done in the end."""

import asyncio

import pytest

from infrawatch.ingest.scheduling import low_priority
from infrawatch.ingest.scheduling.low_priority import (
    MAX_PAUSE_S,
    MAX_TOTAL_PAUSE_S,
    PAUSE_FACTOR,
    LowPriority,
)


class Clock:
    """A clock that advances with work and sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.pauses_s: list[float] = []
        monkeypatch.setattr(low_priority, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


async def test_a_piece_of_work_is_followed_by_a_longer_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, batch = Clock(monkeypatch), LowPriority(asyncio.Lock())
    for took_s in (0.001, 0.002, 10.0):
        async with batch.piece():
            clock.now_s += took_s
    assert clock.pauses_s == pytest.approx(
        [PAUSE_FACTOR * 0.001, PAUSE_FACTOR * 0.002, MAX_PAUSE_S]
    )


async def test_the_pauses_of_a_batch_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, batch = Clock(monkeypatch), LowPriority(asyncio.Lock())
    for _ in range(1_000):
        async with batch.piece():
            clock.now_s += 1.0
    assert sum(clock.pauses_s) == pytest.approx(MAX_TOTAL_PAUSE_S)
    assert clock.pauses_s[-1] == 0


async def test_batches_take_turns() -> None:
    turn = asyncio.Lock()
    done: list[str] = []

    async def work(name: str) -> None:
        batch = LowPriority(turn)
        for _ in range(3):
            async with batch.piece():
                done.append(name)

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b"):
            tasks.create_task(work(name))
    assert done == ["a", "b"] * 3
