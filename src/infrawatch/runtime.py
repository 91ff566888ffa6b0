"""The process itself: its memory, and the tasks it cannot live without."""

import asyncio
import ctypes
import gc
import resource
import signal
import sys
from collections.abc import Coroutine, Iterable
from contextlib import suppress

import structlog

log = structlog.get_logger()

GC_THRESHOLD = 100_000
"""A large batch makes this many dicts; with CPython's 700 the collector would run all the time."""

SWITCH_S = 0.001
"""How long the event loop waits for the interpreter lock when a thread holds it, as one does that
reads a large body; at CPython's 5 ms, everybody else waits for as much at every turn."""

CANCEL_AGAIN_S = 1.0
"""How long a task may take to end before it is told again."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt (glibc, malloc.h)."""

_MIB = 1024 * 1024


def settle() -> None:
    """Call once everything is open: the memory that is in use now will stay in use."""
    _settle_garbage_collection()
    _give_memory_back()
    sys.setswitchinterval(SWITCH_S)


def allow_open_files(wanted: int) -> int:
    """Raise this process's limit of open files, as far as it may; returns what it is then.

    Most systems start programs with 1,024, for the sake of some that count in a bitmap.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError):  # macOS has yet another limit, and does not say which
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return wanted if soft == resource.RLIM_INFINITY else soft


async def vital(work: Coroutine[object, object, None], *, may_end: bool = False) -> None:
    """Do work the service cannot live without; when it fails, ask the process to leave.

    Work that ends without being told to has failed, unless it `may_end`. uvicorn keeps serving
    after a task of the lifespan has died.

    Raises:
        Exception: what the work raised.
    """
    try:
        await (work if may_end else _endless(work))
    except Exception:
        name = getattr(work, "__qualname__", "unknown")
        log.critical("vital_task_failed", task=name, exc_info=True)
        signal.raise_signal(signal.SIGTERM)
        raise


async def stop(endless: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they have ended.

    Libraries can lose a cancellation that meets an answer or a timeout of theirs (asyncio.wait_for
    does before Python 3.12), and such a task would go on for ever.
    """
    pending = set(endless)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


async def _endless(work: Coroutine[object, object, None]) -> None:
    await work
    raise RuntimeError("the task has ended, and nobody does its work now")


def _settle_garbage_collection() -> None:
    """What was imported stays, so the collector need not look at it again (p99 halves)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)


def _give_memory_back() -> None:
    """What a large body took is returned at once; glibc would keep up to 64 MiB in every thread."""
    with suppress(AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 * _MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 8 * _MIB)
