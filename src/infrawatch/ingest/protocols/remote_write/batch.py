"""Shared by both versions: combining series from the fast and careful paths into one batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from infrawatch.errors import BatchTooLarge
from infrawatch.ingest.decoded import MS_NS, Decoded
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.remote_write.fields import Outline, Regular
from infrawatch.ingest.protocols.remote_write.labels import (
    KeyForm,
    describe,
    find_plain_name,
    read_name,
)
from infrawatch.ingest.protocols.remote_write.samples import (
    Piece,
    Samples,
    combine,
)
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Int64s, Positions
from infrawatch.store.metadata import Metadata

MAX_SERIES = 50_000
MAX_SAMPLES = 1_000_000
MAX_HISTOGRAMS = 10_000
"""Limits for one request. By default vmagent sends at most 10,000 samples at a time and Prometheus
2,000; the backlog waiting for a commit holds at most a million."""

MAX_KEY_BYTES = 64 * 1024 * 1024
"""Limit for all keys of a request together: in 2.0 they are larger than their references."""

OFF_LOOP_BYTES = 1024 * 1024
"""Limit for bodies in the usual form; decoding this much takes about three milliseconds."""

_CAREFUL_OFF_LOOP_BYTES = 64 * 1024
_CAREFUL_OFF_LOOP = 500
"""Limits for series in other forms; reading this many takes about five milliseconds."""


class ParsedSeries(NamedTuple):
    """One series as parsed by protobuf, of either version; empty if it is refused."""

    key: bytes = b""
    times_ms: Sequence[int] = ()
    value_bits: Sequence[int] = ()
    histograms: Sequence[bytes] = ()
    exemplars: int = 0

    @classmethod
    def of(cls, key: bytes, message: Any) -> Self:
        return cls(
            key,
            times_ms=[sample.timestamp for sample in message.samples],
            value_bits=[sample.value for sample in message.samples],
            histograms=message.histograms,
            exemplars=len(message.exemplars),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded request: all samples except those of histograms, which are still encoded.

    `parsed` holds the series that were not in the usual form, by their index in the request.
    There is an `outline` if all are, and each has samples.
    """

    decoded: Decoded
    parsed: Mapping[int, ParsedSeries]
    key_form: KeyForm
    outline: Outline | None = None

    @property
    def has_histograms(self) -> bool:
        return any(one.histograms for one in self.parsed.values())


def to_batch(
    keys: Sequence[bytes],
    regular: Regular,
    parsed: Mapping[int, ParsedSeries],
    key_form: KeyForm,
    metadata: Mapping[str, Metadata],
    verdicts: Verdicts,
) -> Batch:
    """Combine a request; `keys` are those of all series; series without samples are dropped.

    Raises:
        BatchTooLarge: more than a million samples.
    """
    samples = combine([Piece(regular.indexes, regular.samples), _to_piece(parsed)], len(keys))
    if len(samples.times_ms) > MAX_SAMPLES:
        raise too_large()
    indexes: Sequence[int] = range(len(keys))
    outline = regular.outline
    if not samples.counts.all():
        indexes = np.flatnonzero(samples.counts).tolist()
        keys = [keys[index] for index in indexes]
        samples = samples._replace(counts=samples.counts[indexes])
        outline = None
    decoded = _to_decoded(_Series(keys, indexes, samples.counts, key_form), samples)
    decoded.metadata, decoded.verdicts = metadata, verdicts
    decoded.exemplars = sum(one.exemplars for one in parsed.values())
    return Batch(decoded, parsed, key_form, outline)


def to_known_batch(
    keys: Sequence[bytes], ids: Int64s, samples: Samples, key_form: KeyForm
) -> Batch:
    """Create the batch of a request that has only samples of known series, at least one each."""
    series = _Series(keys, range(len(keys)), samples.counts, key_form)
    decoded = _to_decoded(series, samples)
    decoded.ids = ids
    return Batch(decoded, {}, key_form)


def are_slow(indexes: Sequence[int], series: Sequence[bytes]) -> bool:
    """Whether reading these series of a request on the careful path takes long."""
    return len(indexes) > _CAREFUL_OFF_LOOP or (
        sum(len(series[index]) for index in indexes) > _CAREFUL_OFF_LOOP_BYTES
    )


def parse_each(
    read: Callable[[int], ParsedSeries], indexes: Iterable[int], keys: list[bytes]
) -> dict[int, ParsedSeries]:
    """Read some series of a request on the careful path, and set their `keys`.

    Raises:
        BatchTooLarge: together they exceed a limit.
    """
    parsed: dict[int, ParsedSeries] = {}
    samples = histograms = key_bytes = 0
    for index in indexes:
        one = parsed[index] = read(index)
        keys[index] = one.key
        samples += len(one.times_ms)
        histograms += len(one.histograms)
        key_bytes += len(one.key)
        if samples > MAX_SAMPLES or histograms > MAX_HISTOGRAMS or key_bytes > MAX_KEY_BYTES:
            raise too_large()
    return parsed


def too_large() -> BatchTooLarge:
    return BatchTooLarge(
        f"a request holds at most {MAX_SERIES} series, {MAX_SAMPLES} samples and {MAX_HISTOGRAMS} "
        "histograms: send fewer at a time (max_samples_per_send in Prometheus)"
    )


class _Series(NamedTuple):
    """Names and locates series; `indexes` are their positions in the request."""

    keys: Sequence[bytes]
    indexes: Sequence[int]
    counts: Positions
    key_form: KeyForm

    def name_of(self, number: int) -> SeriesName | list[Verdict]:
        key = self.keys[number]
        try:
            plain = find_plain_name(self.key_form, key)
            if plain is not None:
                return plain
            pairs = self.key_form.to_pairs(key)
        except ValueError as error:
            return [self._refused(number, "", Flaw("malformed_series", str(error)))]
        name = read_name(pairs)
        if isinstance(name, SeriesName):
            return name
        return [self._refused(number, f", {describe(pairs)}", name)]

    def locate(self, number: int, sample: int) -> tuple[int, str]:
        index = self.indexes[number]
        place = f"series {index}, sample {sample}"
        try:
            return index, f"{place} of {describe(self.key_form.to_pairs(self.keys[number]))}"
        except ValueError:  # it may be refused before its name has been read
            return index, place

    def _refused(self, number: int, described: str, flaw: Flaw) -> Verdict:
        index = self.indexes[number]
        return Verdict(index, f"series {index}{described}", *flaw, int(self.counts[number]))


def _to_decoded(series: _Series, samples: Samples) -> Decoded:
    return Decoded(
        keys=series.keys,
        name_of=series.name_of,
        locate=series.locate,
        counts=samples.counts,
        times=samples.times_ms,
        values=samples.values,
        unit_ns=MS_NS,
    )


def _to_piece(parsed: Mapping[int, ParsedSeries]) -> Piece:
    all_series = parsed.values()
    bits = [bits for one in all_series for bits in one.value_bits]
    return Piece(
        np.array(list(parsed), np.intp),
        Samples(
            np.array([len(one.times_ms) for one in all_series], np.intp),
            np.array([time_ms for one in all_series for time_ms in one.times_ms], np.int64),
            np.array(bits, np.uint64).view(np.float64),
        ),
    )
