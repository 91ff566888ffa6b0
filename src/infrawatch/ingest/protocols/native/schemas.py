"""Request and response schemas of `POST /v1/samples`."""

from typing import Annotated, Literal, Required

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from infrawatch.ingest.decoding.names import MAX_LABELS
from infrawatch.model.selector import METRIC_LABEL
from infrawatch.problems import Problem

MAX_BATCH_SERIES = 10_000
MAX_BATCH_SAMPLES = 50_000

MetricName = Annotated[
    StrictStr, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200, examples=["node_load1"])
]


def _not_the_metric(name: str) -> str:
    if name == METRIC_LABEL:
        raise PydanticCustomError("metric_label", f"{METRIC_LABEL} is the metric, no label")
    return name


LabelName = Annotated[
    StrictStr,
    Field(
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_.]*$",
        max_length=200,
        json_schema_extra={"not": {"const": METRIC_LABEL}},
    ),
    AfterValidator(_not_the_metric),
]
# jsonb has no NUL.
LabelValue = Annotated[StrictStr, Field(pattern=r"^[^\x00]*$", max_length=4_096)]
MetricType = Literal["gauge", "counter", "histogram", "summary", "unknown"]
Text = Annotated[StrictStr, Field(pattern=r"^[^\x00]*$", max_length=1_024)]
Time = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Value = Annotated[StrictFloat, AllowInfNan(allow_inf_nan=False)]
Sample = tuple[Time, Value]
_SamplesOfOne = Annotated[
    list[Sample], Field(min_length=1, max_length=MAX_BATCH_SAMPLES), FailFast()
]

# Unknown fields are errors, so that a misspelt field is noticed. (`true` and "1.5" are not numbers
# either: the leaf types are strict, so that JSON text and parsed JSON are validated alike.)
# TypedDicts: creating a model object for each series would cost more than parsing it.
_STRICT = ConfigDict(extra="forbid")


class _DescriptorIn(TypedDict, total=False):
    """The name of a series, and the metadata of its metric."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]  # pydantic reads it from the class

    metric: Required[MetricName]
    labels: Annotated[
        dict[LabelName, LabelValue], Field(max_length=MAX_LABELS, examples=[{"host": "web-1"}])
    ]
    type: MetricType
    unit: Text
    help: Text


class SeriesIn(_DescriptorIn):
    """Samples of one series, each `[time, value]`; times are integers in units of `precision`."""

    samples: Annotated[list[Sample], Field(min_length=1, max_length=MAX_BATCH_SAMPLES)]


class BatchIn(TypedDict):
    """A batch; it is stored completely or not at all, unless `partial` is set."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    series: Annotated[list[SeriesIn], Field(min_length=1, max_length=MAX_BATCH_SERIES)]


class _SeriesShape(TypedDict, total=False):
    """`SeriesIn` without the patterns for names, which halves the cost of validation.

    Names are checked against `_Name` when their series is first seen.
    """

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    metric: Required[StrictStr]
    labels: dict[StrictStr, StrictStr]
    type: MetricType
    unit: Text
    help: Text
    samples: Required[_SamplesOfOne]


class _BatchShape(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    series: Annotated[
        list[_SeriesShape], Field(min_length=1, max_length=MAX_BATCH_SERIES), FailFast()
    ]


class _Outline(_DescriptorIn):
    """`SeriesIn`, with samples that are validated one by one."""

    samples: Annotated[list[object], Field(min_length=1)]


class _Name(TypedDict, total=False):
    """The checks that `_SeriesShape` omits."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]

    metric: Required[MetricName]
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=MAX_LABELS)]


class _Envelope(TypedDict):
    """A batch whose series are validated one by one."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    series: Annotated[list[object], Field(min_length=1)]


class Refusal(BaseModel):
    """A refused item of a batch."""

    pointer: Annotated[
        str | None, Field(description="JSON pointer (RFC 6901) into the body, or into the line.")
    ] = None
    line: Annotated[int | None, Field(description="Line of the body, from 1.")] = None
    code: Annotated[str, Field(examples=["too_far_in_future"])]
    detail: str


class Receipt(BaseModel):
    """Confirmation that the accepted samples are on disk."""

    accepted: Annotated[int, Field(description="Samples committed.")]
    rejected: Annotated[int, Field(description="Samples refused; `errors` says why.")]
    cursor: Annotated[
        str | None,
        Field(description="Pass it as `wait_for` to read what you wrote, on any replica."),
    ]
    dry_run: Annotated[bool | None, Field(description="True when nothing was to be stored.")] = None


class PartialReceipt(Receipt):
    """Confirmation that the accepted samples are on disk, with the reasons for the others."""

    errors: Annotated[list[Refusal], Field(description="The first hundred.")]
    errors_left_out: Annotated[int, Field(description="Number of errors not listed.")]


class BatchProblem(Problem):
    """Nothing was stored; `errors` lists the reasons."""

    accepted: int
    rejected: int
    errors: Annotated[list[Refusal], Field(description="The first hundred.")]
    errors_left_out: Annotated[int, Field(description="Number of errors not listed.")]


BATCH = TypeAdapter(BatchIn)
OUTLINE = TypeAdapter(_Outline)
METRIC: TypeAdapter[str] = TypeAdapter(MetricName)
SAMPLE: TypeAdapter[tuple[int, float]] = TypeAdapter(Sample)
BATCH_SHAPE = TypeAdapter(_BatchShape)
SERIES_SHAPE = TypeAdapter(_SeriesShape)
DESCRIPTOR = TypeAdapter(_DescriptorIn)
NAME = TypeAdapter(_Name)
ENVELOPE = TypeAdapter(_Envelope)
