"""Response models of the read endpoints."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

WireValue = Annotated[
    float | str | None,
    Field(description='A number; "NaN", "+Inf" or "-Inf"; null for a stale marker or empty step.'),
]
Labels = Annotated[dict[str, str], Field(examples=[{"host": "web-1"}])]
SeriesId = Annotated[str, Field(description="A 64-bit integer, as text.", examples=["64"])]
WireTime = Annotated[int, Field(description="Since the epoch, in units of `precision`.")]


class SeriesOut(BaseModel):
    id: SeriesId
    metric: str
    labels: Labels
    first_time: WireTime | None
    last_time: WireTime | None


class SeriesPage(BaseModel):
    series: list[SeriesOut]
    next_cursor: Annotated[
        str | None, Field(description="Pass it as `cursor` for the next page; null on the last.")
    ]


class LabelName(BaseModel):
    name: str
    series: Annotated[int, Field(description="Number of series that have it.")]


class LabelNames(BaseModel):
    labels: list[LabelName]


class LabelValue(BaseModel):
    value: str
    series: Annotated[int, Field(description="Number of series that have it.")]


class LabelValues(BaseModel):
    values: list[LabelValue]


class MetricMetadata(BaseModel):
    type: str
    unit: str
    help: str
    temporality: Literal["cumulative", "delta"]


class MetadataOut(BaseModel):
    metadata: Annotated[dict[str, MetricMetadata], Field(description="By metric.")]


class LatestSample(BaseModel):
    id: SeriesId
    metric: str
    labels: Labels
    time: WireTime
    value: WireValue


class Latest(BaseModel):
    series: list[LatestSample]


class SeriesSamples(BaseModel):
    id: SeriesId
    metric: str
    labels: Labels
    samples: list[tuple[WireTime, WireValue]]


class Samples(BaseModel):
    series: list[SeriesSamples]


class GroupSamples(BaseModel):
    id: Annotated[SeriesId | None, Field(description="Null for a group of series.")]
    metric: Annotated[str | None, Field(description="Null where a group has several metrics.")]
    labels: Labels
    samples: list[tuple[WireTime, WireValue]]


class RangeOut(BaseModel):
    series: list[GroupSamples]
