"""Response models of the read endpoints."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

WireValue = Annotated[
    float | str | None,
    Field(description='A number; "NaN", "+Inf" or "-Inf"; null for a stale marker or empty step.'),
]
Labels = Annotated[dict[str, str], Field(examples=[{"host": "web-1"}])]
SeriesId = Annotated[str, Field(description="A 64-bit integer, as text.", examples=["64"])]
WireTime = Annotated[int, Field(description="Since the epoch, in units of `precision`.")]


class _Described(BaseModel):
    """Base of models that only describe responses, and are built for `/openapi.json` alone."""

    model_config = ConfigDict(defer_build=True)


class SeriesOut(_Described):
    id: SeriesId
    metric: str
    labels: Labels
    first_time: WireTime | None
    last_time: WireTime | None


class SeriesPage(_Described):
    series: list[SeriesOut]
    next_cursor: Annotated[
        str | None, Field(description="Pass it as `cursor` for the next page; null on the last.")
    ]


class LabelName(_Described):
    name: str
    series: Annotated[int, Field(description="Number of series that have it.")]


class LabelNames(_Described):
    labels: list[LabelName]


class LabelValue(_Described):
    value: str
    series: Annotated[int, Field(description="Number of series that have it.")]


class LabelValues(_Described):
    values: list[LabelValue]


class MetricMetadata(_Described):
    type: str
    unit: str
    help: str
    temporality: Literal["cumulative", "delta"]


class MetadataOut(_Described):
    metadata: Annotated[dict[str, MetricMetadata], Field(description="By metric.")]


class LatestSample(_Described):
    id: SeriesId
    metric: str
    labels: Labels
    time: WireTime
    value: WireValue


class Latest(_Described):
    series: list[LatestSample]


class SeriesSamples(_Described):
    id: SeriesId
    metric: str
    labels: Labels
    samples: list[tuple[WireTime, WireValue]]


class Samples(_Described):
    series: list[SeriesSamples]


class GroupSamples(_Described):
    id: Annotated[SeriesId | None, Field(description="Null for a group of series.")]
    metric: Annotated[str | None, Field(description="Null where a group has several metrics.")]
    labels: Labels
    samples: list[tuple[WireTime, WireValue]]


class RangeOut(_Described):
    series: list[GroupSamples]
