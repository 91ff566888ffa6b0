"""Labels and names of series: a name is a metric with a canonical label set."""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import NamedTuple, NewType, Self

Labels = NewType("Labels", tuple[tuple[str, str], ...])
"""Sorted by name, names unique, no empty values."""

SHARDS = 64
"""Permanently part of every series id; 64 leaves 2^57 series and lets 64 nodes share the work."""

SHARD_BITS = 6

_PLACE_LABELS = ("instance", "host", "hostname", "node", "pod")
_LENGTH = struct.Struct("<I")


def to_labels(pairs: Mapping[str, str]) -> Labels:
    """Return the canonical label set: sorted by name, without empty values.

    An empty value is the same as no label (Prometheus, "Data model").
    """
    return Labels(tuple(sorted((name, value) for name, value in pairs.items() if value)))


class SeriesName(NamedTuple):
    """The name of a series; within a tenant, equal names are the same series."""

    metric: str
    labels: Labels

    @classmethod
    def of(cls, metric: str, labels: Mapping[str, str]) -> Self:
        return cls(metric, to_labels(labels))

    def fingerprint(self) -> bytes:
        """Return 128 bits that identify the name in indexes, stable across processes and versions.

        BLAKE2b over the metric, then names and values in order, each preceded by its
        length in bytes (u32, little-endian), so that no two names share an encoding.
        """
        return _digest(self.metric, _encode_labels(self.labels, _encode_label))

    def place(self) -> str:
        """Return the origin of the series: the first of `_PLACE_LABELS` it has, else the metric."""
        labels = dict(self.labels)
        for name in _PLACE_LABELS:
            if name in labels:
                return labels[name]
        return self.metric

    def shard(self) -> int:
        """Return the shard, 0 to 63: a stable hash of the place.

        The series of one agent share a shard, so its samples are written and read together.
        """
        return shard_of_place(self.place())


def to_fingerprints(names: Iterable[SeriesName]) -> list[bytes]:
    """Return the fingerprint of each name, in order.

    Labels that several names share are encoded once, which takes half of the time.
    """
    encode_labels = cache(partial(_encode_labels, encode_label=cache(_encode_label)))
    return [_digest(name.metric, encode_labels(name.labels)) for name in names]


@lru_cache(maxsize=4096)  # series usually arrive in batches from few places
def shard_of_place(place: str) -> int:
    """Return the shard of the series of a place."""
    return hashlib.blake2b(place.encode(), digest_size=1).digest()[0] % SHARDS


def shard_of(series_id: int) -> int:
    """Return the shard of a series: the low six bits of its id."""
    return series_id & (SHARDS - 1)


def _digest(metric: str, labels: bytes) -> bytes:
    return hashlib.blake2b(_encode(metric) + labels, digest_size=16).digest()


def _encode_labels(labels: Labels, encode_label: Callable[[tuple[str, str]], bytes]) -> bytes:
    return b"".join(map(encode_label, labels))


def _encode_label(label: tuple[str, str]) -> bytes:
    name, value = label
    return _encode(name) + _encode(value)


def _encode(text: str) -> bytes:
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded
