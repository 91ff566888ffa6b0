"""The agent: its options and its two tasks."""

import asyncio
import math
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from infrawatch.agent.batches import MAX_LABEL_CHARACTERS, Encoder
from infrawatch.agent.collect import Collection, host_collectors
from infrawatch.agent.self_metrics import read_agent
from infrawatch.agent.send import Sender
from infrawatch.agent.spool import Spool
from infrawatch.client.url import public_url
from infrawatch.errors import InvalidInput
from infrawatch.model.timerange import now_us

log = structlog.get_logger(__name__)

JOB = "node"
"""The job that node_exporter's dashboards and alerting rules (its mixin) expect by default."""

_SHORTEST_INTERVAL = timedelta(milliseconds=100)
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_.]{0,199}")
_MAX_LABELS = 32


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The options of an agent.

    `labels` are added to every series, and may replace `instance` (the host's name) and `job`.
    `key_file` is read before each attempt that follows a refusal of the key, so that a key
    can be changed while the agent runs.

    Raises:
        InvalidInput: an option is not valid; the message names it.
    """

    url: str
    spool_dir: Path
    key_file: Path | None = None
    interval: timedelta = timedelta(seconds=5)
    labels: Mapping[str, str] = field(default_factory=dict)
    spool_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        public_url(self.url)
        if self.interval < _SHORTEST_INTERVAL:
            raise InvalidInput("an interval is at least 100ms")
        if len(self.labels) > _MAX_LABELS:
            raise InvalidInput(f"at most {_MAX_LABELS} labels of your own are possible")
        for name, value in self.labels.items():
            if not _LABEL_NAME.fullmatch(name):
                raise InvalidInput(
                    f"{name[:50]!r} cannot be a label: use letters, digits, _ and ., not starting "
                    "with a digit or two underscores"
                )
            if len(value) > MAX_LABEL_CHARACTERS:
                raise InvalidInput(
                    f"the value of the label {name} has more than {MAX_LABEL_CHARACTERS} characters"
                )


async def run(options: AgentOptions) -> None:
    """Collect, spool and send until cancelled.

    Batches in the spool when it ends, however it ends, are sent when it runs again. Blocking
    work runs in threads, so that the agent may share its event loop with a server.

    Raises:
        CannotStart: the spool directory cannot be written, or another agent uses it.
    """
    spool = await asyncio.to_thread(Spool.open, options.spool_dir, limit_bytes=options.spool_bytes)
    try:
        sender = Sender(spool, url=options.url, key_file=options.key_file)
        collection = Collection({**host_collectors(), "agent": partial(read_agent, spool, sender)})
        encoder = Encoder({"instance": socket.gethostname(), "job": JOB, **options.labels})
        grid = Grid(options.interval)

        def collect() -> None:
            time_ms = grid.to_ms(now_us())
            spool.add(encoder.encode(collection.run(), time_ms=time_ms))

        async def collect_and_wake() -> None:
            await asyncio.to_thread(collect)
            sender.wake()

        log.info("agent_started", server=public_url(options.url), backlog=spool.usage.batches)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sender.run())
            tasks.create_task(_repeat(collect_and_wake, options.interval))
    finally:
        await asyncio.to_thread(spool.close)


class Grid:
    """Aligns almost regular times to a regular grid.

    Evenly spaced samples take the least space in a chunk. As in Prometheus
    (`scrape.timestamp-tolerance`) a time moves by no more than 1 % of the interval, here
    also by no more than 10 ms. A time further off, such as after a clock was set, begins a
    new grid.
    """

    def __init__(self, interval: timedelta) -> None:
        self._step_ms = interval / timedelta(milliseconds=1)
        self._tolerance_ms = min(self._step_ms / 100, 10.0)
        self._start_ms = 0.0

    def to_ms(self, time_us: int) -> int:
        """The time in milliseconds, on the grid if it is close."""
        time_ms = time_us / 1000
        steps = round((time_ms - self._start_ms) / self._step_ms)
        nearest_ms = self._start_ms + steps * self._step_ms
        if abs(time_ms - nearest_ms) > self._tolerance_ms:
            self._start_ms = nearest_ms = time_ms
        return round(nearest_ms)


async def _repeat(work: Callable[[], Awaitable[None]], interval: timedelta) -> None:
    """Call `work` at regular times; times that pass while it runs are skipped."""
    clock = asyncio.get_running_loop().time
    step_s = interval.total_seconds()
    due = clock()
    while True:
        await work()
        due += max(math.ceil((clock() - due) / step_s), 1) * step_s
        await asyncio.sleep(due - clock())
