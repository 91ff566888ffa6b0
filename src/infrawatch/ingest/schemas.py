"""Request and response schemas of `POST /v1/samples`."""

import json
from typing import Annotated, Any, Literal, Required

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

from infrawatch.model.selector import METRIC_LABEL
from infrawatch.problems import Problem

MAX_BATCH_SERIES = 10_000
MAX_BATCH_SAMPLES = 50_000
MAX_LABELS = 64

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


def openapi_components(now_ms: int) -> dict[str, dict[str, Any]]:
    """Build the OpenAPI components that FastAPI does not generate, from the same models.

    The examples carry current times, so that they are accepted when pasted.
    """
    reference = "#/components/schemas/{model}"
    batch = BATCH.json_schema(ref_template=reference)
    problem = BatchProblem.model_json_schema(ref_template=reference)
    shared = batch.pop("$defs") | problem.pop("$defs")
    load = {"metric": "node_load1", "labels": {"host": "web-1"}, "type": "gauge", "unit": "1"}
    series = {**load, "samples": [[now_ms - 10_000, 0.42], [now_ms, 0.44]]}
    return {
        "schemas": {**shared, "BatchIn": batch, "BatchProblem": problem},
        "examples": {
            "Batch": {"summary": "Two samples", "value": {"series": [series]}},
            "Lines": {"summary": "One series a line", "value": f"{json.dumps(series)}\n"},
            **_examples_of_protocols(now_ms),
        },
    }


def _examples_of_protocols(now_ms: int) -> dict[str, Any]:
    point = {"timeUnixNano": f"{now_ms}000000", "asInt": "7"}
    metric = {"name": "queue.length", "gauge": {"dataPoints": [point]}}
    service = {"key": "service.name", "value": {"stringValue": "checkout"}}
    request = {"resource": {"attributes": [service]}, "scopeMetrics": [{"metrics": [metric]}]}
    record = {
        "values": [197141504, 175136768],
        "dstypes": ["derive", "derive"],
        "dsnames": ["read", "write"],
        "time": now_ms / 1000,
        "interval": 10,
        "host": "web-1",
        "plugin": "disk",
        "plugin_instance": "sda",
        "type": "disk_octets",
        "type_instance": "",
    }
    exported = {
        "metric": {"__name__": "up", "job": "node"},
        "values": [1, 0],
        "timestamps": [now_ms - 15_000, now_ms],
    }
    return {
        "Otlp": {"summary": "A gauge", "value": {"resourceMetrics": [request]}},
        "Records": {"summary": "A disk, both ways", "value": [record]},
        "Exported": {"summary": "One series", "value": f"{json.dumps(exported)}\n"},
    }
