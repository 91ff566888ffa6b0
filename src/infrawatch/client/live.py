"""Live subscriptions that reconnect automatically and resume where they stopped."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from random import SystemRandom
from typing import Annotated, Literal, NamedTuple

import httpx
import structlog
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from infrawatch.client.loopback import is_loopback
from infrawatch.client.problem import Problem
from infrawatch.client.series import Answer, Sample, Series
from infrawatch.client.url import LATER
from infrawatch.errors import RequestRefused, ServerUnavailable
from infrawatch.model.timerange import from_us

log = structlog.get_logger()

SILENT_S = 20.0
"""Servers send a heartbeat every 5 seconds; one that is silent for this long is gone."""

FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 10.0
MAX_FRAME_BYTES = 256 * 1024 * 1024
US_PER_MS = 1000

_SUBSCRIPTION = "live"


class LiveUpdate(NamedTuple):
    """The samples of each series that were committed since the previous update.

    Of samples with the same time, the one in the later update counts. A snapshot replaces all
    earlier updates. Its `gap` is the reason if samples were missed before it.
    """

    series: Sequence[Series]
    is_snapshot: bool = False
    gap: str | None = None


class SubscriptionOptions(NamedTuple):
    match: str
    since: str | None
    every: timedelta | None


class _Name(Answer):
    id: str
    metric: str
    labels: dict[str, str]


class _Names(Answer):
    type: Literal["subscribed", "series"]
    series: tuple[_Name, ...] = ()
    added: tuple[_Name, ...] = ()


class _Samples(Answer):
    type: Literal["snapshot", "update"]
    cursor: str
    samples: dict[str, list[tuple[int, float | None]]]


class _Gap(Answer):
    type: Literal["gap"]
    reason: str


class _Error(Answer):
    type: Literal["error"]
    problem: Problem


class _Heartbeat(Answer):
    type: Literal["heartbeat"]
    cursor: str | None


_Frame = _Names | _Samples | _Gap | _Error | _Heartbeat
_FRAME: TypeAdapter[_Frame] = TypeAdapter(Annotated[_Frame, Field(discriminator="type")])


async def follow(
    url: httpx.URL, headers: Mapping[str, str], options: SubscriptionOptions
) -> AsyncGenerator[LiveUpdate, None]:
    """Yield updates forever; see `Client.live`."""
    following = _Following(options)
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            async with connect(
                _live_url(url),
                additional_headers=headers,
                max_size=MAX_FRAME_BYTES,
                proxy=None if is_loopback(url.host) else True,
            ) as connection:
                await connection.send(following.subscribe())
                while True:
                    async with asyncio.timeout(SILENT_S):
                        text = await connection.recv()
                    if (update := following.read(text)) is not None:
                        pause_s = FIRST_PAUSE_S
                        yield update
        except (OSError, TimeoutError, WebSocketException, ServerUnavailable) as error:
            _raise_if_refused(error)
            if following.cursor is None and not isinstance(error, ConnectionClosed):
                reason = str(error) or type(error).__name__
                raise ServerUnavailable(f"cannot follow {url}: {reason}") from error
            log.info("live_connection_lost", reason=str(error) or type(error).__name__)
        # Randomized, so that clients do not all connect to a starting server at once.
        await asyncio.sleep(SystemRandom().uniform(pause_s / 2, pause_s))
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


class _Following:
    """State of a subscription across connections."""

    def __init__(self, options: SubscriptionOptions) -> None:
        self._options = options
        self._names: dict[str, _Name] = {}
        self._gap: str | None = None
        self.cursor: str | None = None

    def subscribe(self) -> str:
        options = self._options
        every_ms = None if options.every is None else options.every // timedelta(milliseconds=1)
        optional = {"since": options.since, "resume": self.cursor, "every_ms": every_ms}
        frame = {"type": "subscribe", "id": _SUBSCRIPTION, "match": options.match}
        return to_json(frame | {name: one for name, one in optional.items() if one}).decode()

    def read(self, text: str | bytes) -> LiveUpdate | None:
        """Process a frame; return an update if it is one.

        Raises:
            RequestRefused: the server refuses the subscription.
            ServerUnavailable: the server cannot serve it now, or is not InfraWatch.
        """
        try:
            frame = _FRAME.validate_json(text)
        except ValidationError:
            raise ServerUnavailable("the answer is not one of InfraWatch") from None
        match frame:
            case _Names():
                self._names |= {one.id: one for one in (*frame.series, *frame.added)}
            case _Gap():
                self._gap = frame.reason
            case _Heartbeat():
                self.cursor = frame.cursor or self.cursor
            case _Error():
                raise _to_error(frame.problem)
            case _Samples():
                return self._to_update(frame)
        return None

    def _to_update(self, frame: _Samples) -> LiveUpdate | None:
        self.cursor = frame.cursor
        is_snapshot = frame.type == "snapshot"
        if not (frame.samples or is_snapshot):
            return None
        gap, self._gap = self._gap, None
        return LiveUpdate(list(self._to_series(frame)), is_snapshot, gap)

    def _to_series(self, frame: _Samples) -> Iterable[Series]:
        for series_id, samples in frame.samples.items():
            name = self._names[series_id]
            taken = [Sample(from_us(time * US_PER_MS), value) for time, value in samples]
            yield Series(name.metric, name.labels, taken)


def _live_url(url: httpx.URL) -> str:
    path = f"{url.path.rstrip('/')}/v1/live"
    return str(url.copy_with(scheme={"http": "ws", "https": "wss"}[url.scheme], path=path))


def _raise_if_refused(error: Exception) -> None:
    """Raise an error that reconnecting would not resolve."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in LATER:
            raise _to_refusal(status, error.response.body) from None


def _to_refusal(status: int, body: bytes | bytearray) -> RequestRefused:
    problem = Problem.read(body)
    detail = problem.detail or "is this the right URL, and may this key read?"
    return RequestRefused(
        f"the server answered {status}: {detail}",
        answered_status=status,
        answered_code=problem.code or f"http_{status}",
    )


def _to_error(problem: Problem) -> RequestRefused | ServerUnavailable:
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerUnavailable(problem.detail)
    return RequestRefused(
        problem.detail, answered_status=problem.status, answered_code=problem.code
    )
