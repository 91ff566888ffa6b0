"""Subscriptions: the frames sent to one viewer for one selector, from the snapshot on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import dropwhile

from pydantic_core import to_json

from infrawatch.live import schemas
from infrawatch.live.hub import Hub
from infrawatch.live.initial_state import InitialState, InitialStateReader
from infrawatch.live.mailbox import Mailbox, Reason
from infrawatch.live.options import SubscriptionOptions
from infrawatch.live.topic import Topic, TopicKey
from infrawatch.live.update import Update, encode_samples
from infrawatch.model.cursor import Cursor


class LiveUpdates:
    """Opens subscriptions; one per process."""

    def __init__(self, hub: Hub, states: InitialStateReader) -> None:
        self.hub = hub
        self._states = states

    @contextmanager
    def subscribed(self, options: SubscriptionOptions) -> Generator["Subscription", None, None]:
        """Open a subscription whose mailbox receives updates from now on."""
        key = TopicKey(options.tenant_id, options.selector)
        with self.hub.joined(key, options.delivery) as (topic, mailbox):
            yield Subscription(self.hub, self._states, options, topic, mailbox)

    def drain(self) -> None:
        """End every subscription because the server stops."""
        self.hub.close()


class Subscription:
    """One viewer's subscription to a topic.

    The mailbox exists before the snapshot is read, so no update between the two is lost; the first
    updates are left out as long as the snapshot already contains them.
    """

    def __init__(
        self,
        hub: Hub,
        states: InitialStateReader,
        options: SubscriptionOptions,
        topic: Topic,
        mailbox: Mailbox,
    ) -> None:
        self._hub = hub
        self._states = states
        self._options = options
        self._topic = topic
        self._mailbox = mailbox
        self._builder = _FrameBuilder(options.id, topic)
        self._is_waiting = False
        self.is_starting = False
        """Whether its initial state is being read from the database, which may take long."""

    @property
    def is_idle(self) -> bool:
        """Whether everything that the hub has applied has been sent."""
        return self._is_waiting and self._mailbox.is_empty

    async def frames(self) -> AsyncGenerator[str, None]:
        """The frames of the subscription as JSON, until the server stops.

        Raises:
            InvalidInput: the selector matches too many series, or `since` is not a time.
            DeadlineExceeded: the snapshot takes too long to read.
        """
        resume, lost = self._options.resume, None
        while True:
            # One snapshot per connection in memory: the next is read after this one is sent.
            async with self._options.turn:
                frames, seqs = await self._read_initial(resume, lost)
                while frames:
                    yield frames.popleft()
            while self._mailbox.is_whole:
                for frame in await self._next_frames(seqs):
                    yield frame
            if self._mailbox.is_closed:
                return
            resume, lost = None, self._mailbox.restart()

    async def _read_initial(
        self, resume: Cursor | None, lost: Reason | None
    ) -> tuple[deque[str], Mapping[int, int]]:
        """The frames and seqs of an initial state; `lost` is set if one follows a loss."""
        self.is_starting = True
        try:
            state = await self._states.read(self._options, resume)
        finally:
            self.is_starting = False
        self._hub.learn(self._topic, state.series)
        frames = deque[str]()
        if lost is None:
            frames.append(await asyncio.to_thread(self._builder.subscribed_frame))
        samples_json = await asyncio.to_thread(encode_samples, state.columns)
        frames += self._builder.initial_frames(
            state._replace(lost=lost or state.lost), samples_json
        )
        return frames, state.position.seqs

    async def _next_frames(self, seqs: Mapping[int, int]) -> Iterable[str]:
        """Wait for updates after a state at `seqs`; gives their frames, or a heartbeat."""
        self._is_waiting = True
        try:
            if self._options.heartbeat is None:
                await self._mailbox.wait()
            else:
                async with asyncio.timeout(self._options.heartbeat.total_seconds()):
                    await self._mailbox.wait()
        except TimeoutError:
            return [heartbeat_frame(self._hub)]
        finally:
            self._is_waiting = False
        await _until_tick(self._options.every)
        return self._builder.update_frames(self._mailbox.take(), seqs)


def heartbeat_frame(hub: Hub, *, is_complete: bool = True) -> str:
    """A heartbeat with the position up to which all is sent; if incomplete, without a cursor."""
    age_ms = round(hub.since_check_s() * 1000)
    cursor = hub.position().text if is_complete else None
    return schemas.Heartbeat(cursor=cursor, age_ms=age_ms).model_dump_json()


class _FrameBuilder:
    """Builds the frames of one subscription and tracks which series they have announced."""

    def __init__(self, subscription_id: str, topic: Topic) -> None:
        self._id = subscription_id
        self._topic = topic
        self._announced = 0
        self._is_ahead = False

    def subscribed_frame(self) -> str:
        return schemas.Subscribed(id=self._id, series=self._unannounced()).model_dump_json()

    def initial_frames(self, state: InitialState, samples_json: str) -> Iterator[str]:
        """A gap if something was lost, then the snapshot, or the update since the cursor."""
        self._is_ahead = False
        if state.lost is not None:
            yield schemas.Gap(id=self._id, reason=state.lost).model_dump_json()
        yield from self._new_series()
        kind = "update" if state.is_resumed else "snapshot"
        yield self._samples(kind, state.position.text, samples_json)

    def update_frames(self, updates: Sequence[Update], seqs: Mapping[int, int]) -> Iterator[str]:
        """The frames of updates that follow a state at `seqs`.

        Leading updates that the state contains are left out. After the first one that it does not
        contain, all are sent: one writer may have replaced samples of another, and the later
        arrival must win.
        """
        unseen = tuple(
            updates if self._is_ahead else dropwhile(lambda one: one.is_within(seqs), updates)
        )
        if not unseen:
            return
        self._is_ahead = True
        yield from self._new_series()
        update = self._topic.joined(unseen)
        more = f',"coalesced":{update.coalesced}' if update.coalesced else ""
        yield self._samples("update", update.position.text, update.part.json, more)

    def _new_series(self) -> Iterator[str]:
        if len(self._topic.series) > self._announced:
            yield schemas.SeriesAdded(id=self._id, added=self._unannounced()).model_dump_json()

    def _unannounced(self) -> list[schemas.SeriesName]:
        unannounced = self._topic.series[self._announced :]
        self._announced += len(unannounced)  # the topic may have grown since
        return [
            schemas.SeriesName(id=str(one.id), metric=one.metric, labels=dict(one.labels))
            for one in unannounced
        ]

    def _samples(self, kind: str, cursor: str, samples_json: str, more: str = "") -> str:
        """Assemble a frame from parts that viewers share, equal to what its model would give."""
        name = to_json(self._id).decode()
        return f'{{"type":"{kind}","id":{name},"cursor":"{cursor}","samples":{samples_json}{more}}}'


async def _until_tick(every: timedelta | None) -> None:
    """Wait for the next whole multiple of `every`: viewers with the same interval share updates."""
    if every is not None:
        every_s = every.total_seconds()
        await asyncio.sleep(every_s - asyncio.get_running_loop().time() % every_s)
