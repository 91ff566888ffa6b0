"""One WebSocket connection with any number of subscriptions."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from math import inf

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from infrawatch.access.principal import Principal
from infrawatch.errors import InfraWatchError, InvalidFrame, Unauthenticated
from infrawatch.live import schemas
from infrawatch.live.options import SubscriptionOptions
from infrawatch.live.subscription import LiveUpdates, Subscription, heartbeat_frame
from infrawatch.model.cursor import Cursor
from infrawatch.model.selector import parse_selector
from infrawatch.problems import to_members

log = structlog.get_logger()

SEND_DEADLINE_S = 15.0
"""A viewer that does not accept a frame within this time is disconnected to free memory."""

CHECK_S = 1.25
HEARTBEAT_S = 5.0
MAX_SUBSCRIPTIONS = 100
MAX_BAD_FRAMES = 3

CLOSE_BAD_FRAMES = 4400
CLOSE_NOT_ADMITTED = 4401
CLOSE_STUCK = 4408

NOT_ADMITTED = "your key was revoked or has expired"

StillAdmits = Callable[[Principal], Awaitable[bool]]
"""Whether a principal that was admitted still would be."""


class _TooManyBadFrames(Exception):  # closes the connection, is never sent
    """The viewer has sent several invalid frames in a row."""


class Viewer:
    """Reads the viewer's frames; each subscription is a task that sends.

    A slow viewer delays only itself: its updates gather in mailboxes, which are bounded, and after
    a while it is disconnected.
    """

    def __init__(
        self,
        websocket: WebSocket,
        principal: Principal,
        live: LiveUpdates,
        still_admits: StillAdmits,
    ) -> None:
        self._websocket = websocket
        self._principal = principal
        self._live = live
        self._still_admits = still_admits
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._subscriptions: set[Subscription] = set()
        self._sending = asyncio.Lock()
        self._turn = asyncio.Semaphore(1)
        self._send_deadline = inf
        self._bad_frames = 0

    async def serve(self) -> None:
        """Serve until the viewer leaves, stops reading, sends bad frames, or loses its access."""
        try:
            async with asyncio.TaskGroup() as tasks:
                heartbeats = tasks.create_task(self._send_heartbeats())
                try:
                    await self._listen(tasks)
                finally:
                    for task in (heartbeats, *self._tasks.values()):
                        task.cancel()
        except* WebSocketDisconnect:
            pass
        except* TimeoutError:
            log.warning("viewer_takes_nothing")
            await self._close(CLOSE_STUCK, "you took nothing for 15 s; connect again and resume")
        except* _TooManyBadFrames:
            await self._close(CLOSE_BAD_FRAMES, "too many bad frames")
        except* Unauthenticated:
            await self._close(CLOSE_NOT_ADMITTED, NOT_ADMITTED)

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            text = message.get("text")
            try:
                self._handle(_read(text), tasks)
                self._bad_frames = 0
            except InfraWatchError as error:
                await self._send_error(error, _find_id(text))
                self._bad_frames += 1
                if self._bad_frames >= MAX_BAD_FRAMES:
                    raise _TooManyBadFrames from None

    def _handle(
        self, frame: schemas.Subscribe | schemas.Unsubscribe, tasks: asyncio.TaskGroup
    ) -> None:
        if isinstance(frame, schemas.Unsubscribe):
            if (task := self._tasks.pop(frame.id, None)) is not None:
                task.cancel()
            return
        if frame.id in self._tasks:
            raise InvalidFrame(f"there is a subscription {frame.id!r} already: unsubscribe first")
        if len(self._tasks) >= MAX_SUBSCRIPTIONS:
            raise InvalidFrame(
                f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions: end one first"
            )
        task = tasks.create_task(self._follow(self._to_options(frame)))
        self._tasks[frame.id] = task

    def _to_options(self, frame: schemas.Subscribe) -> SubscriptionOptions:
        return SubscriptionOptions(
            id=frame.id,
            tenant_id=self._principal.tenant_id,
            selector=parse_selector(frame.match),
            since=frame.since,
            resume=None if frame.resume is None else Cursor.from_text(frame.resume),
            every=None if frame.every_ms is None else timedelta(milliseconds=frame.every_ms),
            delivery=frame.delivery,
            turn=self._turn,
        )

    async def _follow(self, options: SubscriptionOptions) -> None:
        try:
            with self._live.subscribed(options) as subscription:
                self._subscriptions.add(subscription)
                try:
                    async with aclosing(subscription.frames()) as frames:
                        async for frame in frames:
                            await self._send(frame)
                            del frame  # megabytes, kept in memory until the next one
                finally:
                    self._subscriptions.discard(subscription)
        except InfraWatchError as error:
            self._tasks.pop(options.id, None)
            await self._send_error(error, options.id)

    async def _send_heartbeats(self) -> None:
        """Send heartbeats to an idle viewer, and check that it still reads and is admitted.

        Raises:
            TimeoutError: the viewer does not accept a frame in time.
            Unauthenticated: its key is no longer valid.
        """
        clock = asyncio.get_running_loop().time
        due = clock() + HEARTBEAT_S
        while True:
            await asyncio.sleep(CHECK_S)
            if clock() > self._send_deadline:
                raise TimeoutError
            if not await self._still_admits(self._principal):
                raise Unauthenticated(NOT_ADMITTED, reason="withdrawn")
            if clock() < due or not self._subscriptions:
                continue
            due += HEARTBEAT_S
            if (beat := self._find_heartbeat()) is not None:
                async with asyncio.timeout(SEND_DEADLINE_S):  # no other task checks this one
                    await self._send(beat)

    def _find_heartbeat(self) -> str | None:
        """The heartbeat to send now; None while other frames are due."""
        if all(subscription.is_idle for subscription in self._subscriptions):
            return heartbeat_frame(self._live.hub)
        if self._sending.locked() or not any(
            subscription.is_starting for subscription in self._subscriptions
        ):
            return None
        return heartbeat_frame(self._live.hub, is_complete=False)

    async def _send_error(self, error: InfraWatchError, subscription_id: str | None) -> None:
        await self._send(error_frame(error, subscription_id))

    async def _send(self, frame: str) -> None:
        """Send one frame, when no other subscription is sending.

        Raises:
            WebSocketDisconnect: the viewer has left.
        """
        async with self._sending:
            # Checked at intervals: a timer for every frame would be a tenth of its cost.
            self._send_deadline = asyncio.get_running_loop().time() + SEND_DEADLINE_S
            try:
                await self._websocket.send_text(frame)
            except RuntimeError:  # raised by Starlette when sending after the close
                raise WebSocketDisconnect from None
            finally:
                self._send_deadline = inf

    async def _close(self, code: int, reason: str) -> None:
        """Close the connection with a reason; a viewer that does not read misses it."""
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(1.0):
                await self._websocket.close(code, reason)


def error_frame(error: InfraWatchError, subscription_id: str | None) -> str:
    """An error frame; it names the subscription concerned, if any."""
    problem = schemas.Problem.model_validate(to_members(error))
    return schemas.Error(id=subscription_id, problem=problem).model_dump_json()


def _read(text: str | None) -> schemas.Subscribe | schemas.Unsubscribe:
    """Parse a client frame.

    Raises:
        InvalidFrame: the frame is not valid; the error names the field.
    """
    if text is None or len(text) > schemas.MAX_FRAME_CHARACTERS:
        raise InvalidFrame(
            f"frames are JSON text of at most {schemas.MAX_FRAME_CHARACTERS} characters"
        )
    try:
        return schemas.CLIENT_FRAME.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the frame"
        raise InvalidFrame(f"{field}: {first['msg']}") from None


def _find_id(text: str | None) -> str | None:
    """The subscription id of a frame that may be invalid otherwise; None if it has none."""
    try:
        return schemas.About.model_validate_json(text or "").id
    except ValidationError:
        return None
