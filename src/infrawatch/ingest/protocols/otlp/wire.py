"""OTLP's messages, declared so that names and attributes stay bytes until they are needed.

On the wire these are the messages of opentelemetry-proto, and they are derived from its
descriptors. But names, attributes, resources, scopes, exemplars and data points are `bytes` here:
parsing everything costs ten times as much as parsing the numbers, and mostly yields labels that are
known already. Also, a text that is not UTF-8 cannot make a whole request unreadable.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

Message = Any
"""Classes created at run time have no static types."""

_LEAVES = {"data_points", "exemplars"}
_BRANCHES = {"resource_metrics", "scope_metrics", "metrics"}


def _derive(left_as_bytes: set[str]) -> DescriptorPool:
    """Derive the messages, with text, fields of foreign types and `left_as_bytes` as bytes."""
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
"""Has the only field of `ExportMetricsServiceRequest`, with the same number."""

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
"""Tag and length of attributes with a one-byte length; creating a message costs twice as much."""


def has_more_messages(body: bytes, limit: int) -> bool:
    """Whether a request has more than `limit` resources, scopes and metrics, without parsing each.

    Each may be as short as two bytes, and takes a hundred once parsed.

    Raises:
        DecodeError: the body is not a request.
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
    """Encode attributes canonically, as a data point that has nothing else."""
    return b"".join(
        [
            _BEGINNINGS[len(one)] + one
            if len(one) < len(_BEGINNINGS)
            else NumberDataPoint(attributes=[one]).SerializeToString()
            for one in attributes
        ]
    )


def decode_attributes(encoded: bytes) -> Sequence[KeyValue]:
    """Decode the output of `encode_attributes` completely.

    Raises:
        DecodeError: the attributes are not UTF-8, or not valid attributes.
    """
    return metrics_pb2.NumberDataPoint.FromString(encoded).attributes
