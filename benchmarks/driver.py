"""A cheap sender: keeps one request in flight on each connection, and notes how long it took.

It parses no more of HTTP than status and length of an answer, so that on a small machine the sender
does not take from the server what is to be measured.
"""

import asyncio
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit

from typing_extensions import override
from workload import Batch


class Request(NamedTuple):
    group: int
    samples: int
    body: memoryview


@dataclass(slots=True)
class Outcome:
    """What became of all requests; `refused` holds the first answers that were no success."""

    samples: int = 0
    latencies_s: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def spooled(batches: Iterable[Batch]) -> list[Request]:
    """Put bodies into a file mapped into memory: made before the clock starts, kept by the system."""
    with TemporaryFile() as file:
        found = [(batch.group, batch.samples, file.write(batch.body)) for batch in batches]
        file.flush()
        mapped = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    ends = np_cumsum(size for _, _, size in found)
    return [
        Request(group, samples, mapped[end - size : end])
        for (group, samples, size), end in zip(found, ends, strict=True)
    ]
