"""What happens to the process when a task it cannot live without is gone."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import pytest

from infrawatch.runtime import vital


@contextmanager
def _asked_to_leave() -> Generator[list[int], None, None]:
    """The signals that ask the process to leave while the block lasts."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


async def _ends() -> None: ...


async def _fails() -> None:
    raise LookupError("nothing there")


async def test_a_vital_task_that_fails_asks_the_process_to_leave() -> None:
    with _asked_to_leave() as asked, pytest.raises(LookupError):
        await vital(_fails())
    assert asked == [signal.SIGTERM]


async def test_a_vital_task_that_ends_by_itself_has_failed() -> None:
    with _asked_to_leave() as asked, pytest.raises(RuntimeError, match="has ended"):
        await vital(_ends())
    assert asked == [signal.SIGTERM]


async def test_a_vital_task_may_end_where_that_is_declared() -> None:
    with _asked_to_leave() as asked:
        await vital(_ends(), may_end=True)
    assert not asked
