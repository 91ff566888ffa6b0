"""OTLP requests as senders make them, and what is read in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from decoding import nothing_known
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from protobuf_wire import bytes_field

from infrawatch.ingest.protocols.otlp.decode import Metrics, decode
from infrawatch.model.labels import SeriesName

NOW_NS = 1_790_000_000_123_456_789

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


def to_any(value: object) -> AnyValue:
    """A Python value as OpenTelemetry's SDK sends it; None is the empty value."""
    fields: dict[type, Callable[[Any], AnyValue]] = {
        bool: lambda it: AnyValue(bool_value=it),
        int: lambda it: AnyValue(int_value=it),
        float: lambda it: AnyValue(double_value=it),
        str: lambda it: AnyValue(string_value=it),
        bytes: lambda it: AnyValue(bytes_value=it),
        list: lambda it: AnyValue(array_value=ArrayValue(values=map(to_any, it))),
        dict: lambda it: AnyValue(kvlist_value=KeyValueList(values=to_attributes(it))),
        type(None): lambda _: AnyValue(),
    }
    return fields[type(value)](value)


def to_attributes(values: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=to_any(value)) for key, value in values.items()]


def number(
    value: float | None, time_ns: int = NOW_NS, labels: Mapping[str, object] = {}, **more: Any
) -> NumberDataPoint:
    """A data point; of a start time, unless it says otherwise, and without a value for None."""
    field = {} if value is None else {"as_int" if isinstance(value, int) else "as_double": value}
    start = {"start_time_unix_nano": NOW_NS - 10**9}
    fields = start | field | more
    return NumberDataPoint(time_unix_nano=time_ns, attributes=to_attributes(labels), **fields)


def gauge(name: str, *points: NumberDataPoint, **more: Any) -> Metric:
    return Metric(name=name, gauge=Gauge(data_points=points), **more)


def counter(name: str, *points: NumberDataPoint, **more: Any) -> Metric:
    how: dict[str, Any] = {"aggregation_temporality": CUMULATIVE, "is_monotonic": True}
    how |= {key: more.pop(key) for key in how if key in more}
    return Metric(name=name, sum=Sum(data_points=points, **how), **more)


def buckets(
    counts: Sequence[int], bounds: Sequence[float], labels: Mapping[str, object] = {}, **more: Any
) -> HistogramDataPoint:
    """A histogram's data point; it counts what its buckets hold."""
    fields: dict[str, Any] = {"count": sum(counts), "time_unix_nano": NOW_NS, **more}
    return HistogramDataPoint(
        bucket_counts=counts, explicit_bounds=bounds, attributes=to_attributes(labels), **fields
    )


def histogram(
    name: str, *points: HistogramDataPoint, temporality: Any = CUMULATIVE, **more: Any
) -> Metric:
    data = Histogram(data_points=points, aggregation_temporality=temporality)
    return Metric(name=name, histogram=data, **more)


def request(
    *metrics: Metric,
    resource: Mapping[str, object] = {},
    scope: InstrumentationScope | None = None,
    schema_url: str = "",
) -> ExportMetricsServiceRequest:
    """All metrics from one scope of one resource."""
    scoped = ScopeMetrics(scope=scope, metrics=metrics, schema_url=schema_url)
    described = Resource(attributes=to_attributes(resource))
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=described, scope_metrics=[scoped])]
    )


def encoded_request(field: int, data: bytes) -> bytes:
    """A request with one metric `m`, whose field with this number is given as bytes."""
    metric = bytes_field(1, b"m") + bytes_field(field, data)
    return bytes_field(1, bytes_field(2, bytes_field(2, metric)))


def encoded_gauge(*points: bytes) -> bytes:
    """A request with one gauge `m`, whose data points are given as bytes."""
    return encoded_request(5, b"".join(bytes_field(1, point) for point in points))


def read(sent: ExportMetricsServiceRequest) -> Metrics:
    return decode(sent.SerializeToString(), nothing_known)


def rows(metrics: Metrics) -> list[tuple[str, dict[str, str], float]]:
    """Metric, labels and value of each sample that has a name."""
    names = [metrics.name_of(n) for n in range(len(metrics.keys))]
    return [
        (name.metric, dict(name.labels), value)
        for name, value in zip(names, metrics.values.tolist(), strict=True)
        if isinstance(name, SeriesName)
    ]


def refusals(metrics: Metrics) -> list[tuple[int, str]]:
    """Data point and code of each sample that is refused by name."""
    names = [metrics.name_of(n) for n in range(len(metrics.keys))]
    return [
        (one.index, one.code) for name in names if not isinstance(name, SeriesName) for one in name
    ]
