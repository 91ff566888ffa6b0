"""OTLP's JSON encoding, converted to the binary encoding that the decoder reads.

This is protobuf's JSON mapping, but with names in lowerCamelCase only, enums as integers only, and
unknown fields ignored. Source: OTLP specification, "JSON Protobuf Encoding". Only stored data is
read: exemplars are merely counted, so the format of their ids does not matter.
"""

from typing import Annotated, Any, cast

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from infrawatch.errors import MalformedBody
from infrawatch.ingest.protocols.otlp.families import too_large
from infrawatch.ingest.protocols.otlp.json_scalars import (
    Bool,
    Bytes,
    Double,
    Enum,
    Int32,
    Int64,
    Text,
    UInt32,
    UInt64,
)

_FORM = ConfigDict(alias_generator=to_camel, defer_build=True)  # most requests are protobuf
_UP_TO_THE_FIRST_ERROR = Field(fail_fast=True)

_MAX_COMMAS = 4_000_000
"""Each implies a value that takes about thirty bytes while it is read."""

# null is equivalent to an absent field everywhere.


def to_protobuf(body: bytes) -> bytes:
    """Re-encode a request.

    Raises:
        MalformedBody: the body is not JSON, or not an `ExportMetricsServiceRequest`.
        BatchTooLarge: more values than a million data points have.
    """
    if len(body) > _MAX_COMMAS and body.count(b",") > _MAX_COMMAS:
        raise too_large()
    try:
        document = _REQUEST.validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"/{part}" for part in found["loc"])
        raise MalformedBody(
            f"the body is not a metrics request in OTLP's JSON: {place[:500]} {found['msg']}"
        ) from None
    return ExportMetricsServiceRequest(**cast(Any, document)).SerializeToString()


def _check_one_of(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    given = [to_camel(name) for name in names if fields.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"only one of {', '.join(given)} can be given")
    return fields


class _AnyValueForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]  # pydantic reads it from the class

    string_value: Text
    bool_value: Bool
    int_value: Int64
    double_value: Double | None
    array_value: "_ArrayForm | None"
    kvlist_value: "_KeyValuesForm | None"
    bytes_value: Bytes


_KINDS = tuple(_AnyValueForm.__annotations__)
_Value = Annotated[_AnyValueForm, AfterValidator(lambda value: _check_one_of(value, _KINDS))]


class _ArrayForm(TypedDict, total=False):
    values: Annotated[list[_Value], _UP_TO_THE_FIRST_ERROR] | None


class _KeyValueForm(TypedDict, total=False):
    key: Text
    value: _Value | None


_Attributes = Annotated[list[_KeyValueForm], _UP_TO_THE_FIRST_ERROR] | None


class _KeyValuesForm(TypedDict, total=False):
    values: _Attributes


class _ExemplarForm(TypedDict):
    """An exemplar; its fields are not read."""


class _PointForm(TypedDict, total=False):
    """The fields common to all data points."""

    __pydantic_config__ = _FORM  # type: ignore[misc]

    attributes: _Attributes
    start_time_unix_nano: UInt64 | None
    time_unix_nano: UInt64 | None
    flags: UInt32


class _WithExemplars(_PointForm, total=False):
    exemplars: Annotated[list[_ExemplarForm], _UP_TO_THE_FIRST_ERROR] | None


class _NumberPointForm(_WithExemplars, total=False):
    as_double: Double | None
    as_int: Int64


_NUMBERS = ("as_double", "as_int")
_NumberPoint = Annotated[
    _NumberPointForm, AfterValidator(lambda point: _check_one_of(point, _NUMBERS))
]


class _HistogramPointForm(_WithExemplars, total=False):
    count: UInt64 | None
    sum: Double | None
    bucket_counts: Annotated[list[UInt64], _UP_TO_THE_FIRST_ERROR] | None
    explicit_bounds: Annotated[list[Double], _UP_TO_THE_FIRST_ERROR] | None


class _BucketsForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    offset: Int32
    bucket_counts: Annotated[list[UInt64], _UP_TO_THE_FIRST_ERROR] | None


class _ExponentialPointForm(_WithExemplars, total=False):
    count: UInt64 | None
    sum: Double | None
    scale: Int32
    zero_count: UInt64 | None
    zero_threshold: Double | None
    positive: _BucketsForm | None
    negative: _BucketsForm | None


class _QuantileForm(TypedDict, total=False):
    quantile: Double | None
    value: Double | None


class _SummaryPointForm(_PointForm, total=False):
    count: UInt64 | None
    sum: Double | None
    quantile_values: Annotated[list[_QuantileForm], _UP_TO_THE_FIRST_ERROR] | None


class _GaugeForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    data_points: Annotated[list[_NumberPoint], _UP_TO_THE_FIRST_ERROR] | None


class _SumForm(_GaugeForm, total=False):
    aggregation_temporality: Enum
    is_monotonic: Bool


class _HistogramForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    data_points: Annotated[list[_HistogramPointForm], _UP_TO_THE_FIRST_ERROR] | None
    aggregation_temporality: Enum


class _ExponentialForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    data_points: Annotated[list[_ExponentialPointForm], _UP_TO_THE_FIRST_ERROR] | None
    aggregation_temporality: Enum


class _SummaryForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    data_points: Annotated[list[_SummaryPointForm], _UP_TO_THE_FIRST_ERROR] | None


class _MetricForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    name: Text
    description: Text
    unit: Text
    gauge: _GaugeForm | None
    sum: _SumForm | None
    histogram: _HistogramForm | None
    exponential_histogram: _ExponentialForm | None
    summary: _SummaryForm | None


_DATA = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_Metric = Annotated[_MetricForm, AfterValidator(lambda metric: _check_one_of(metric, _DATA))]


class _ScopeForm(TypedDict, total=False):
    name: Text
    version: Text
    attributes: _Attributes


class _ScopeMetricsForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    scope: _ScopeForm | None
    metrics: Annotated[list[_Metric], _UP_TO_THE_FIRST_ERROR] | None
    schema_url: Text


class _ResourceForm(TypedDict, total=False):
    attributes: _Attributes


class _ResourceMetricsForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    resource: _ResourceForm | None
    scope_metrics: Annotated[list[_ScopeMetricsForm], _UP_TO_THE_FIRST_ERROR] | None


class _RequestForm(TypedDict, total=False):
    __pydantic_config__ = _FORM  # type: ignore[misc]

    resource_metrics: Annotated[list[_ResourceMetricsForm], _UP_TO_THE_FIRST_ERROR] | None


_REQUEST = TypeAdapter(_RequestForm)
