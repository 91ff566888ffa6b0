"""One metric of a request: where it stood, and what its series are called."""

import struct
from hashlib import blake2b
from typing import NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from infrawatch.ingest.names import Flaw, to_series_name
from infrawatch.ingest.protocols.otlp.attributes import joined, to_entries
from infrawatch.ingest.protocols.otlp.names import Kind, metric_name, unit_name
from infrawatch.ingest.protocols.otlp.resources import read_resource, read_scope
from infrawatch.ingest.protocols.otlp.wire import Message, decode_attributes
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

DIGEST_BYTES = 16
"""As many as stand for a series' name in the store; nobody finds two inputs with one digest."""

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA

_LENGTHS = struct.Struct("<II")
_HEAD = struct.Struct("<IIBi?")

_MAX_TEXT_CHARACTERS = 1_024
"""Of a description; as in the native format."""

_DATA = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponential_histogram": "exponentialHistogram",
    "summary": "summary",
}
"""The fields of a `Metric` that hold data points, and their names in JSON."""

_NUMBERS = {name: number for number, name in enumerate(_DATA)}


class Scope(NamedTuple):
    """One `ScopeMetrics`: its JSON pointer, and what is the same for all of its metrics."""

    pointer: str
    resource: bytes
    scope: bytes
    schema_url: bytes
    digest: bytes

    @classmethod
    def of(cls, pointer: str, resource: bytes, scope_metrics: Message) -> "Scope":
        scope, schema_url = scope_metrics.scope, scope_metrics.schema_url
        lengths = _LENGTHS.pack(len(resource), len(scope))
        return cls(
            pointer, resource, scope, schema_url, digest(lengths, resource, scope, schema_url)
        )


class Family(NamedTuple):
    """One `Metric`; `digest` stands for all that the names and metadata of its series depend on."""

    scope: Scope
    place: int
    metric: Message
    data: str
    temporality: int
    is_monotonic: bool
    digest: bytes

    @classmethod
    def of(cls, scope: Scope, place: int, metric: Message, data: str) -> "Family":
        points = getattr(metric, data)
        has_temporality = data not in ("gauge", "summary")
        temporality = points.aggregation_temporality if has_temporality else CUMULATIVE
        is_monotonic = data == "sum" and points.is_monotonic
        name, unit = metric.name, metric.unit
        kind = _NUMBERS[data]
        head = _HEAD.pack(len(name), len(unit), kind, temporality, is_monotonic)
        mark = digest(scope.digest, head, name, unit, metric.description)
        return cls(scope, place, metric, data, temporality, is_monotonic, mark)

    @property
    def flaw(self) -> Flaw | None:
        """What is wrong with all of its data points."""
        if self.temporality in (CUMULATIVE, DELTA):
            return None
        return Flaw(
            "unknown_value",
            f"aggregationTemporality is {self.temporality}, must be 1 (delta) or 2 (cumulative)",
        )

    def locator(self, point: int) -> str:
        """Where one of its data points stood, for people: the name in the code and the place."""
        name = _text(self.metric.name)[:200]
        field = _DATA[self.data]
        return f"{name!r} at {self.scope.pointer}/metrics/{self.place}/{field}/dataPoints/{point}"

    def to_metadata(self) -> Metadata:
        kind = "counter" if self.is_monotonic else "gauge"
        return Metadata(
            type={"sum": kind, "exponential_histogram": "histogram"}.get(self.data, self.data),
            unit=unit_name(_text(self.metric.unit))[:_MAX_TEXT_CHARACTERS],
            help=_text(self.metric.description).replace("\0", "")[:_MAX_TEXT_CHARACTERS],
            temporality="delta" if self.temporality == DELTA else "cumulative",
        )

    def to_name(self, attributes: bytes, part: "Part") -> SeriesName | Flaw:
        """Name one of its series: by encoded attributes, and which part of a data point it is."""
        origin = read_resource(self.scope.resource)
        if isinstance(origin, Flaw):
            return origin
        scope = read_scope(self.scope.scope, self.scope.schema_url)
        if isinstance(scope, Flaw):
            return scope
        try:
            own = to_entries(decode_attributes(attributes))
        except DecodeError:
            return Flaw("invalid_label_value", "an attribute is not UTF-8, or no KeyValue at all")
        if isinstance(own, Flaw):
            return own
        name = metric_name(_text(self.metric.name), _text(self.metric.unit), self._kind)
        if not name:
            return Flaw("invalid_metric", "no letter or digit is left of the metric's name")
        labels = joined([*origin.entries, *scope, *own])
        return to_series_name(name + part.suffix, [*labels, *part.labels])

    @property
    def _kind(self) -> Kind:
        if self.is_monotonic:
            return "counter"
        return "gauge" if self.data == "gauge" else "other"


class Part(NamedTuple):
    """What tells the series of one data point apart: `_bucket` and its `le`, `_sum`, `_count`."""

    suffix: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def digest(*parts: bytes) -> bytes:
    """128 bits that stand for these bytes, one after the other, in keys of series."""
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def _text(encoded: bytes) -> str:
    """Names are translated and descriptions are for people: neither has to be perfect."""
    return encoded.decode(errors="replace")
