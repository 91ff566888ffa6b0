"""The agent's metrics about itself."""

from collections.abc import Iterator
from importlib.metadata import version

from infrawatch.agent.readings import Reading, counter, gauge
from infrawatch.agent.send import Sender
from infrawatch.agent.spool import DROPPED, Spool

_VERSION = version("infrawatch")

_INFO = gauge("infrawatch_agent_info", "The agent's version.", "version")
_BATCHES = gauge("infrawatch_agent_spool_batches", "Batches that wait to be sent.")
_SAMPLES = gauge("infrawatch_agent_spool_samples", "Samples that wait to be sent.")
_BYTES = gauge("infrawatch_agent_spool_bytes", "Bytes of the batches that wait to be sent.")
_DROPPED = counter(
    "infrawatch_agent_dropped_samples_total",
    "Samples dropped because the spool was full; restarts do not reset it.",
)
_REFUSED = counter(
    "infrawatch_agent_refused_samples_total",
    "Samples that the server refused, by its code; restarts do not reset it.",
    "code",
)
_ATTEMPTS = counter(
    "infrawatch_agent_send_attempts_total",
    "Requests by what came of them, since the agent started.",
    "outcome",
)


def read_agent(spool: Spool, sender: Sender) -> Iterator[Reading]:
    usage, lost = spool.usage, spool.lost_samples
    yield Reading(_INFO, 1, (_VERSION,))
    yield Reading(_BATCHES, usage.batches)
    yield Reading(_SAMPLES, usage.samples)
    yield Reading(_BYTES, usage.bytes)
    yield Reading(_DROPPED, lost[DROPPED])
    for loss, samples in lost.items():
        if loss.how == "refused":
            yield Reading(_REFUSED, samples, (loss.code,))
    for outcome, attempts in sender.attempts.items():
        yield Reading(_ATTEMPTS, attempts, (outcome,))
