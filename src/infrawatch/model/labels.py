"""Labels, and what a series is called: one metric with one canonical label set."""

import hashlib
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, NewType, Self

Labels = NewType("Labels", tuple[tuple[str, str], ...])
"""Sorted by name, names unique, no empty values."""

SHARDS = 64
"""Part of every series id for ever; 64 leaves 2^57 series and lets 64 nodes share the work."""

SHARD_BITS = 6

_PLACE_LABELS = ("instance", "host", "hostname", "node", "pod")
_LENGTH = struct.Struct("<I")


def to_labels(pairs: Mapping[str, str]) -> Labels:
    """Make the canonical set: sorted by name, without empty values.

    An empty value is the same as no label (Prometheus, "Data model").
    """
    return Labels(tuple(sorted((name, value) for name, value in pairs.items() if value)))


class SeriesName(NamedTuple):
    """What a series is called; two equal names are one series within a tenant."""

    metric: str
    labels: Labels

    @classmethod
    def of(cls, metric: str, labels: Mapping[str, str]) -> Self:
        return cls(metric, to_labels(labels))

    def fingerprint(self) -> bytes:
        """128 bits that stand for the name in indexes; the same in every process, for ever.

        BLAKE2b over the metric, then names and values in order, each preceded by its
        length in bytes (u32, little-endian), so that no two names share an encoding.
        """
        digest = hashlib.blake2b(digest_size=16)
        for text in (self.metric, *(part for pair in self.labels for part in pair)):
            encoded = text.encode()
            digest.update(_LENGTH.pack(len(encoded)))
            digest.update(encoded)
        return digest.digest()

    def place(self) -> str:
        """Where the series comes from: the label that says so, else the metric."""
        labels = dict(self.labels)
        for name in _PLACE_LABELS:
            if name in labels:
                return labels[name]
        return self.metric

    def shard(self) -> int:
        """0 to 63: a stable hash of the place.

        One agent's series share a shard, so that its samples are written and read together.
        """
        return _shard_of_place(self.place())


@lru_cache(maxsize=4096)  # many series of few places come together
def _shard_of_place(place: str) -> int:
    return hashlib.blake2b(place.encode(), digest_size=1).digest()[0] % SHARDS


def shard_of(series_id: int) -> int:
    """The shard of a series: the low six bits of its id."""
    return series_id & (SHARDS - 1)
