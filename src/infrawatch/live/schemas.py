"""The JSON frames of `WS /v1/live`; /asyncapi.json is generated from these models."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from infrawatch.model.cursor import MAX_CURSOR_CHARACTERS
from infrawatch.model.selector import MAX_SELECTOR_CHARACTERS

MAX_FRAME_CHARACTERS = 65_536

SubscriptionId = Annotated[str, Field(min_length=1, max_length=100, examples=["cpu"])]
SeriesId = Annotated[str, Field(description="A 64-bit integer, as text.", examples=["64"])]
CursorText = Annotated[str, Field(description="Opaque; pass it on as `resume`.")]
Time = Annotated[int, Field(description="Milliseconds since the epoch.")]
Value = Annotated[
    float | str | None,
    Field(description='A number; "NaN", "+Inf" or "-Inf"; null for a stale marker.'),
]
Samples = Annotated[
    dict[SeriesId, list[tuple[Time, Value]]],
    Field(description="By series, by time; of the same series and time, the later frame wins."),
]


class Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Subscribe(Frame):
    """Subscribe to the series that match a selector; answered by `subscribed` and `snapshot`."""

    type: Literal["subscribe"]
    id: SubscriptionId
    match: Annotated[
        str,
        Field(max_length=MAX_SELECTOR_CHARACTERS, examples=['node_load1{instance="web-1"}']),
    ]
    since: Annotated[
        str | None,
        Field(
            max_length=100,
            description="Where the snapshot begins: what `start` takes; without it, the snapshot "
            "has the last sample of each series.",
            examples=["-15m"],
        ),
    ] = None
    resume: Annotated[
        str | None,
        Field(
            max_length=MAX_CURSOR_CHARACTERS,
            description="The last cursor seen: go on from there instead of with a snapshot.",
        ),
    ] = None
    every_ms: Annotated[
        int | None,
        Field(ge=100, le=10_000, description="Minimum time between two updates, in milliseconds."),
    ] = None
    delivery: Annotated[
        Literal["lossless", "latest"],
        Field(
            description="What to do for a slow viewer: `lossless` sends a gap and a new snapshot, "
            "`latest` keeps the newest sample of each series."
        ),
    ] = "lossless"


class Unsubscribe(Frame):
    type: Literal["unsubscribe"]
    id: SubscriptionId


class About(BaseModel):
    """The only field that is read from an invalid frame."""

    id: SubscriptionId


class SeriesName(Frame):
    id: SeriesId
    metric: str
    labels: dict[str, str]


class Subscribed(Frame):
    """The series that match now."""

    type: Literal["subscribed"] = "subscribed"
    id: SubscriptionId
    series: list[SeriesName]


class SeriesAdded(Frame):
    """Series that began to match; their samples follow."""

    type: Literal["series"] = "series"
    id: SubscriptionId
    added: list[SeriesName]


class Snapshot(Frame):
    """The state of all series; it replaces everything sent before."""

    type: Literal["snapshot"] = "snapshot"
    id: SubscriptionId
    cursor: CursorText
    samples: Samples


class Update(Frame):
    """Samples committed since the previous frame."""

    type: Literal["update"] = "update"
    id: SubscriptionId
    cursor: CursorText
    samples: Samples
    coalesced: Annotated[
        int | None, Field(description="Samples left out for newer ones (`delivery: latest`).")
    ] = None


class Gap(Frame):
    """Updates are missing at this point; a snapshot follows."""

    type: Literal["gap"] = "gap"
    id: SubscriptionId
    reason: Annotated[
        Literal["slow_viewer", "replay_window_passed", "other_database", "journal_lost"],
        Field(description="Why."),
    ]


class Problem(Frame):
    type: str
    title: str
    status: int
    code: str
    detail: str


class Error(Frame):
    """A client frame or a subscription failed; `id` names the subscription concerned, if any."""

    type: Literal["error"] = "error"
    id: str | None = None
    problem: Problem


class Heartbeat(Frame):
    """No new samples; everything up to the cursor has been sent."""

    type: Literal["heartbeat"] = "heartbeat"
    cursor: Annotated[
        str | None,
        Field(
            description="As in `update`, for every subscription of the connection; null while one "
            "of them waits for its first samples: then keep those you have."
        ),
    ]
    age_ms: Annotated[
        int,
        Field(
            ge=0,
            description="How long ago the database last reported its commits. It is polled at "
            "least every second, so more than a few seconds means that it is away or hangs, and "
            "nothing can be newer.",
        ),
    ]


ClientFrame = Annotated[Subscribe | Unsubscribe, Field(discriminator="type")]
CLIENT_FRAME: TypeAdapter[Subscribe | Unsubscribe] = TypeAdapter(ClientFrame)
