"""The process itself: its memory, its open files and its vital tasks."""

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
"""A large batch creates this many dicts; with CPython's 700 the collector would run constantly."""

SWITCH_S = 0.001
"""How long the event loop waits for the interpreter lock while a thread holds it, for example one
that reads a large body; at CPython's 5 ms, all other requests wait that long at every switch."""

CANCEL_AGAIN_S = 1.0
"""How long a task may take to end before it is cancelled again."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt (glibc, malloc.h)."""

_MIB = 1024 * 1024


def settle() -> None:
    """Tune memory management and thread switching; call once all long-lived objects exist."""
    _settle_garbage_collection()
    _give_memory_back()
    sys.setswitchinterval(SWITCH_S)


def allow_open_files(needed: int) -> int:
    """Raise this process's limit of open files as far as permitted; return the limit in effect.

    Most systems default to 1,024, for the sake of programs that use select() and its bitmaps.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        more = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError):  # macOS has a further limit that it does not report
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return needed if soft == resource.RLIM_INFINITY else soft


async def vital(work: Coroutine[object, object, None], *, may_end: bool = False) -> None:
    """Run work that the service depends on; if it fails, send SIGTERM to this process.

    Work that ends without being cancelled has failed, unless it `may_end`. By itself, uvicorn
    keeps serving after a task of the lifespan has died.

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
    """Cancel tasks, repeatedly, until they have ended.

    Libraries can lose a cancellation that coincides with a response or a timeout (asyncio.wait_for
    does before Python 3.12), and such a task would run forever.
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
    """Exempt existing objects, such as imported modules, from collection (halves the p99)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)


def _give_memory_back() -> None:
    """Return the memory of large bodies at once; glibc would keep up to 64 MiB per thread."""
    with suppress(AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 * _MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 8 * _MIB)
