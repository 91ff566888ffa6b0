"""OTLP's messages, declared so that what names a series stays bytes until somebody asks.

The same messages on the wire as opentelemetry-proto's, derived from its descriptors. But names,
attributes, resources, scopes and exemplars are `bytes` here, and so are data points: reading all
of it costs ten times as much as the numbers, only to find the labels there were before. Nor can a
text that is not UTF-8 make a whole request unreadable.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

Message = Any
"""Classes made at run time have no types that a checker could know."""

_LEAVES = {"data_points", "exemplars"}
_BRANCHES = {"resource_metrics", "scope_metrics", "metrics"}


def _derive(left_as_bytes: set[str]) -> DescriptorPool:
    """The messages, with these fields as bytes, and all that are text or come from other files."""
    file = FileDescriptorProto()
    metrics_pb2.DESCRIPTOR.CopyToProto(file)
    file.ClearField("dependency")
    for message in file.message_type:
        for field in message.field:
            is_foreign = field.type_name and not field.type_name.startswith(f".{file.package}.")
            is_text = field.type == FieldDescriptorProto.TYPE_STRING
            if is_foreign or is_text or field.name in left_as_bytes:
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _class(pool: DescriptorPool, name: str) -> Message:
    return GetMessageClass(pool.FindMessageTypeByName(f"{metrics_pb2.DESCRIPTOR.package}.{name}"))


_POOL = _derive(_LEAVES)

MetricsData: Message = _class(_POOL, "MetricsData")
"""Has the one field that `ExportMetricsServiceRequest` has, under the same number."""

NumberDataPoint: Message = _class(_POOL, "NumberDataPoint")
HistogramDataPoint: Message = _class(_POOL, "HistogramDataPoint")
ExponentialHistogramDataPoint: Message = _class(_POOL, "ExponentialHistogramDataPoint")
SummaryDataPoint: Message = _class(_POOL, "SummaryDataPoint")

_FLAT = _derive(_LEAVES | _BRANCHES)
_LEVELS = [
    (_class(_FLAT, "MetricsData"), "resource_metrics"),
    (_class(_FLAT, "ResourceMetrics"), "scope_metrics"),
    (_class(_FLAT, "ScopeMetrics"), "metrics"),
]

NO_RECORDED_VALUE = metrics_pb2.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK

_BEGINNINGS = [NumberDataPoint(attributes=[bytes(n)]).SerializeToString()[:2] for n in range(128)]
"""Tag and length of attributes whose length is one byte: making a message costs twice as much."""


def has_more_messages(body: bytes, limit: int) -> bool:
    """Whether a request has more resources, scopes and metrics than this; makes no object of each.

    Two bytes are enough for one, and reading it takes a hundred.

    Raises:
        DecodeError: it is no request.
    """
    count, parts = 0, [body]
    for level, field in _LEVELS:
        fields = [getattr(level.FromString(part), field) for part in parts]
        count += sum(map(len, fields))
        if count > limit:
            return True
        parts = [part for one in fields for part in one]
    return False


def encode_attributes(attributes: Iterable[bytes]) -> bytes:
    """Attributes in their one canonical encoding: that of a data point with nothing else in it."""
    return b"".join(
        [
            _BEGINNINGS[len(one)] + one
            if len(one) < len(_BEGINNINGS)
            else NumberDataPoint(attributes=[one]).SerializeToString()
            for one in attributes
        ]
    )


def decode_attributes(encoded: bytes) -> Sequence[KeyValue]:
    """What `encode_attributes` was given, read to the end.

    Raises:
        DecodeError: they are not UTF-8, or no attributes at all.
    """
    return metrics_pb2.NumberDataPoint.FromString(encoded).attributes
