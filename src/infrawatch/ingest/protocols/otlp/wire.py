"""OTLP's messages, declared so that what names a series stays bytes until somebody asks.

The same messages on the wire as opentelemetry-proto's, derived from its descriptors. But names,
attributes, resources, scopes and exemplars are `bytes` here, and so are the data points of gauges
and sums: reading those costs as much as all the rest of a steady stream of requests, only to find
the labels it had before. Nor can a text that is not UTF-8 make a whole request unreadable.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

Message = Any
"""Classes made at run time have no types that a checker could know."""

_LEFT_AS_BYTES = {
    ("Gauge", "data_points"),
    ("Sum", "data_points"),
    ("NumberDataPoint", "exemplars"),
    ("HistogramDataPoint", "exemplars"),
    ("ExponentialHistogramDataPoint", "exemplars"),
}


def _derive() -> DescriptorPool:
    file = FileDescriptorProto()
    metrics_pb2.DESCRIPTOR.CopyToProto(file)
    file.ClearField("dependency")
    for message in file.message_type:
        for field in message.field:
            is_foreign = field.type_name and not field.type_name.startswith(f".{file.package}.")
            is_text = field.type == FieldDescriptorProto.TYPE_STRING
            if is_foreign or is_text or (message.name, field.name) in _LEFT_AS_BYTES:
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _class(name: str) -> Message:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{metrics_pb2.DESCRIPTOR.package}.{name}"))


_POOL = _derive()

MetricsData: Message = _class("MetricsData")
"""Has the one field that `ExportMetricsServiceRequest` has, under the same number."""

NumberDataPoint: Message = _class("NumberDataPoint")

_BEGINNINGS = [
    NumberDataPoint(attributes=[bytes(size)]).SerializeToString()[:2] for size in range(128)
]
"""Tag and length of attributes whose length is one byte: making a message costs twice as much."""

NO_RECORDED_VALUE = metrics_pb2.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK


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


def decode_attributes(encoded: bytes) -> Iterable[KeyValue]:
    """What `encode_attributes` was given, read to the end.

    Raises:
        DecodeError: they are not UTF-8, or no attributes at all.
    """
    return metrics_pb2.NumberDataPoint.FromString(encoded).attributes
