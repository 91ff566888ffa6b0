"""Sends spooled batches: the newest first, the backlog beside it, with retries."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from infrawatch.agent.batches import MAX_SAMPLES, count_refused, halves, merged
from infrawatch.agent.once_per_minute import OncePerMinute
from infrawatch.agent.spool import Batch, Spool
from infrawatch.client.connection import Client
from infrawatch.client.key_file import read_key
from infrawatch.errors import Forbidden, RequestRefused, ServerUnavailable

log = structlog.get_logger(__name__)

OUTCOMES = ("accepted", "partial", "refused", "forbidden", "unavailable")

_FIRST_PAUSE_S = 1.0
_MAX_PAUSE_S = 60.0
_MAX_RETRY_AFTER_S = 3600.0  # a Retry-After beyond an hour is most likely a mistake
_MAX_BATCHES = 256

_TOO_LARGE = 413
_ABOUT_THE_BATCH = frozenset({400, _TOO_LARGE, 422})
_ABOUT_THE_KEY = frozenset({401, 403})
_ABOUT_THE_URL = frozenset({404, 405})


class Sender:
    """Sends the batches of the spool to the server; `run` is the only task that sends.

    Every request carries the newest batch, so that dashboards are current, and during a
    backlog as many of the oldest batches as fit, merged. After a failure the first request
    carries only the newest batch, and each success allows four times as many: a server that
    recovers does not receive the whole backlog at once.

    - Server unreachable, 408, 429, 5xx, a redirect or a response that is not InfraWatch's:
      retried after a pause, exponential with full jitter, in addition to `Retry-After`.
    - 401 and 403: the key is probably being changed. The batches stay, and the key file is
      read again before each attempt.
    - 404 and 405, and a refusal that is not InfraWatch's: the URL is wrong, or a proxy on the way
      does not know the server now. Retried like a server that is unreachable.
    - 413: sent again in halves. 400 and 422 for several batches: each half is sent alone,
      until the bad batch is found.
    - Any other 4xx is never sent again: its samples are counted as refused, by code.
    """

    def __init__(self, spool: Spool, *, url: str, key_file: Path | None) -> None:
        self.attempts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._spool = spool
        self._url = url
        self._key_file = key_file
        self._arrived = asyncio.Event()
        self._once_per_minute = OncePerMinute()
        self._failures = 0
        self._max_batches = 1
        self._max_samples = MAX_SAMPLES

    def wake(self) -> None:
        """Signal that batches were spooled."""
        self._arrived.set()

    async def run(self) -> None:
        """Send until cancelled; batches that were not acknowledged stay in the spool."""
        while True:
            try:
                key = await asyncio.to_thread(read_key, self._key_file)
                async with Client(self._url, key=key) as client:
                    while True:
                        await self._send_next(client)
            except (ServerUnavailable, Forbidden, sqlite3.Error) as error:
                await asyncio.sleep(self._next_pause_s(error))

    async def _send_next(self, client: Client) -> None:
        self._arrived.clear()
        batches = await asyncio.to_thread(
            self._spool.next_batches, self._max_batches, max_samples=self._max_samples
        )
        if not batches:
            await self._arrived.wait()
            return
        await self._send(client, batches)
        if self._failures:
            log.info("sending_again", failures=self._failures, backlog=self._spool.usage.batches)
        self._failures = 0
        self._max_batches = min(self._max_batches * 4, _MAX_BATCHES)

    async def _send(self, client: Client, batches: Sequence[Batch]) -> None:
        body = batches[0].body
        if len(batches) > 1:
            body = (await asyncio.to_thread(merged, [batch.body for batch in batches])).json_gzip
        try:
            receipt = await client.push_body(body, partial=True)
        except ServerUnavailable:
            self.attempts["unavailable"] += 1
            raise
        except RequestRefused as error:
            await self._handle_refusal(client, batches, error)
            return
        self.attempts["partial" if receipt.rejected else "accepted"] += 1
        refused: Mapping[str, int] = {}
        if receipt.rejected:
            refused = await asyncio.to_thread(count_refused, body, receipt)
            self._log_refused(refused, {verdict.code: verdict.detail for verdict in receipt.errors})
        await asyncio.to_thread(self._spool.settle, batches, refused=refused)

    async def _handle_refusal(
        self, client: Client, batches: Sequence[Batch], error: RequestRefused
    ) -> None:
        status = error.answered_status
        samples = sum(batch.samples for batch in batches)
        if status in _ABOUT_THE_KEY:
            self.attempts["forbidden"] += 1
            raise Forbidden(
                f"{error}; is the key in the file of --key-file right, and may it write?"
            ) from error
        is_ours = error.answered_code != f"http_{status}"
        if status in _ABOUT_THE_URL or not (is_ours or status == _TOO_LARGE):
            self.attempts["unavailable"] += 1
            raise ServerUnavailable(f"{error}; is this the right URL?") from error
        self.attempts["refused"] += 1
        if status == _TOO_LARGE:
            self._max_samples = max(samples // 2, 1)
        if status in _ABOUT_THE_BATCH and len(batches) > 1:
            middle = len(batches) // 2
            await self._send(client, batches[:middle])
            await self._send(client, batches[middle:])
        elif status == _TOO_LARGE and (parts := await asyncio.to_thread(halves, batches[0].body)):
            await asyncio.to_thread(self._spool.replace, batches[0], parts)
        else:
            refused = {error.answered_code: samples}
            self._log_refused(refused, {error.answered_code: str(error)})
            await asyncio.to_thread(self._spool.settle, batches, refused=refused)

    def _log_refused(self, refused: Mapping[str, int], details: Mapping[str, str]) -> None:
        for code, samples in refused.items():
            if self._once_per_minute(code):
                detail = details.get(code, "")
                log.warning("samples_refused", code=code, samples=samples, detail=detail)

    def _next_pause_s(self, error: Exception) -> float:
        self._max_batches = 1
        ceiling_s = min(_FIRST_PAUSE_S * 2 ** min(self._failures, 10), _MAX_PAUSE_S)
        self._failures += 1
        pause_s = random.uniform(0, ceiling_s)  # noqa: S311  # jitter, not cryptography
        if isinstance(error, ServerUnavailable) and error.retry_after is not None:
            pause_s += min(error.retry_after.total_seconds(), _MAX_RETRY_AFTER_S)
        if self._once_per_minute(type(error).__name__):
            log.warning("cannot_send", error=str(error), pause_s=round(pause_s, 1))
        return pause_s
