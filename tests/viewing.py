"""A viewer over a real WebSocket; validates every frame against /asyncapi.json."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
from httpx import AsyncClient
from websockets.asyncio.client import ClientConnection, connect

from infrawatch.live import asyncapi

Frame = dict[str, Any]
Value = float | str | None

DEADLINE_S = 60


@dataclass(slots=True)
class Picture:
    """What a viewer shows: the frames of one subscription, merged as the protocol says."""

    names: dict[str, str] = field(default_factory=dict)
    samples: dict[tuple[str, int], Value] = field(default_factory=dict)
    cursor: str | None = None
    gaps: list[str] = field(default_factory=list)
    coalesced: int = 0
    snapshots: int = 0

    def apply(self, frame: Frame) -> None:
        match frame["type"]:
            case "subscribed" | "series":
                for one in frame["series" if "series" in frame else "added"]:
                    labels = ",".join(f"{k}={v}" for k, v in sorted(one["labels"].items()))
                    self.names[one["id"]] = f"{one['metric']}{{{labels}}}"
            case "snapshot":
                self.samples.clear()
                self.snapshots += 1
            case "gap":
                self.gaps.append(frame["reason"])
        self.cursor = frame.get("cursor") or self.cursor
        self.coalesced += frame.get("coalesced", 0)
        told: dict[str, list[tuple[int, Value]]] = frame.get("samples", {})
        for series_id, samples in told.items():
            times = [time for time, _ in samples]
            assert times == sorted(set(times)), (
                "samples must be sorted by time, without repetitions"
            )
            self.samples |= {(self.names[series_id], time): value for time, value in samples}

    def values(self) -> list[Any]:
        return [value for _, value in sorted(self.samples.items())]


class Viewing:
    """One connection; `pictures` by subscription grow while waiting for frames."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.pictures: dict[str, Picture] = {}
        self.frames: list[Frame] = []

    async def subscribe(self, match: str, *, id: str = "a", **more: Any) -> Picture:  # noqa: A002
        """Subscribe; return when the snapshot, or what was missed, is there."""
        picture = self.pictures[id] = Picture()
        frame = {"type": "subscribe", "id": id, "match": match, **more}
        VALIDATORS["subscribe"].validate(frame)
        await self.send(frame)
        await self.until(lambda: picture.cursor is not None)
        return picture

    async def send(self, frame: object) -> None:
        await self.connection.send(json.dumps(frame))

    async def next(self, *kinds: str) -> Frame:
        """The next frame of one of these types (of any but a heartbeat)."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                frame = check(await self.connection.recv())
                self.frames.append(frame)
                for key, picture in self.pictures.items():
                    if frame.get("id", key) == key:
                        picture.apply(frame)
                if frame["type"] in kinds or (not kinds and frame["type"] != "heartbeat"):
                    return frame

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.next("subscribed", "series", "snapshot", "update", "gap", "heartbeat")

    async def until_there_are(self, picture: Picture, samples: int) -> None:
        await self.until(lambda: len(picture.samples) == samples)


def check(text: str | bytes) -> Frame:
    """A frame, if it is what the document describes."""
    frame: Frame = json.loads(text)
    VALIDATORS[frame["type"]].validate(frame)
    return frame


def _validators() -> dict[str, Any]:
    document = asyncapi.document()
    schemas = document["components"]["schemas"]
    sent = (*asyncapi.SENT_BY_SERVER, *asyncapi.SENT_BY_VIEWERS)
    return {
        schemas[name]["properties"]["type"]["const"]: jsonschema_rs.validator_for(
            {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        )
        for name in (model.__name__ for model in sent)
    }


VALIDATORS = _validators()


@asynccontextmanager
async def viewing(url: str, **options: Any) -> AsyncGenerator[Viewing, None]:
    """A viewer connected to a server."""
    address = url.replace("http", "ws", 1) + "/v1/live"
    async with connect(address, max_size=None, proxy=None, **options) as connection:
        yield Viewing(connection)


async def metric(url: str, name: str) -> float:
    """The value of one of a server's own metrics; `name` includes its labels, if any."""
    async with AsyncClient(base_url=url, verify=False, timeout=30) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    [line] = [line for line in lines if line.startswith(f"{name} ")]
    return float(line.split()[1])


async def until(
    condition: Callable[[], Awaitable[object]], *, within_s: float = DEADLINE_S
) -> None:
    """Wait until an asynchronous condition holds."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  # what is waited for knows no events
            await asyncio.sleep(0.02)


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


async def push(
    url: str, metric: str, samples: Iterable[tuple[int, float]], /, **labels: str
) -> str:
    """Have samples (milliseconds, value) committed; gives the cursor."""
    series = {"metric": metric, "labels": labels, "samples": list(samples)}
    # Reading the trusted certificates takes longer than the request.
    async with AsyncClient(base_url=url, timeout=30, verify=False) as client:
        answer = await client.post("/v1/samples", json={"series": [series]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["cursor"])
