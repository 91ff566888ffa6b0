"""Conversion of a request's native histograms to samples of classic ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.decoded import MS_NS, Decoded
from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.ingest.protocols.remote_write.batch import Batch
from infrawatch.ingest.protocols.remote_write.histograms import Classic, Part, read_histogram
from infrawatch.ingest.protocols.remote_write.labels import Pairs, describe, read_name
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Positions

_ROOM_BYTES = 64 * 1024 * 1024
_SAMPLE_BYTES = 300
"""Memory limit for the histograms of one request: every byte of a histogram can become a sample of
a separate series, each with a key as long as the histogram's."""

_TOO_MANY = Flaw("too_many_buckets", "the request's histograms are too many: send fewer at a time")

_LE = "le"


class Classics(NamedTuple):
    """Samples of histograms, and the position of each histogram's last sample."""

    decoded: Decoded
    lasts: Positions


@dataclass(frozen=True, slots=True)
class _Histogram:
    """One native histogram: its location, its key and name, and its classic form."""

    index: int
    locator: str
    key: bytes
    name: SeriesName
    classic: Classic


def to_classics(batch: Batch) -> Classics:
    """Convert the histograms of a request, each to one sample in each of several series."""
    verdicts = Verdicts()
    histograms = list(_read_all(batch, verdicts))
    ends = np.cumsum([len(histogram.classic.parts) for histogram in histograms], dtype=np.intp)
    samples = [(histogram, part) for histogram in histograms for part in histogram.classic.parts]
    decoded = Decoded(
        keys=[_to_key(histogram, part) for histogram, part in samples],
        name_of=lambda number: _to_name(*samples[number]),
        locate=lambda number, _: (samples[number][0].index, samples[number][0].locator),
        counts=np.ones(len(samples), np.intp),
        times=np.array([histogram.classic.time_ms for histogram, _ in samples], np.int64),
        values=np.array([part.value for _, part in samples], np.float64),
        unit_ns=MS_NS,
        verdicts=verdicts,
    )
    return Classics(decoded, ends - 1)


def _read_all(batch: Batch, verdicts: Verdicts) -> Iterator[_Histogram]:
    """Yield the histograms that can be stored; the others get verdicts."""
    room = _ROOM_BYTES
    for index, series in batch.parsed.items():
        if not series.histograms:
            continue
        pairs = batch.key_form.to_pairs(series.key)
        name, described = _read_name(pairs), describe(pairs)
        for place, encoded in enumerate(series.histograms):
            locator = f"series {index}, histogram {place} of {described}"
            classic = name if isinstance(name, Flaw) else read_histogram(encoded)
            if isinstance(name, Flaw) or isinstance(classic, Flaw):
                verdicts.add(Verdict(index, locator, *classic))
                continue
            room -= len(classic.parts) * (len(series.key) + _SAMPLE_BYTES)
            if room < 0:
                verdicts.add(Verdict(index, locator, *_TOO_MANY))
                continue
            yield _Histogram(index, locator, series.key, name, classic)


def _read_name(pairs: Pairs) -> SeriesName | Flaw:
    """Return the histogram's name, if names for all of its series can be derived from it."""
    name = read_name(pairs)
    if isinstance(name, Flaw):
        return name
    longest = to_series_name(f"{name.metric}_bucket", [*name.labels, (_LE, "+Inf")])
    return longest if isinstance(longest, Flaw) else name


def _to_key(histogram: _Histogram, part: Part) -> bytes:
    return f"{part.suffix}\0{part.le}\0".encode() + histogram.key


def _to_name(histogram: _Histogram, part: Part) -> SeriesName:
    labels = dict(histogram.name.labels)
    if part.le is not None:
        labels[_LE] = part.le
    return SeriesName.of(histogram.name.metric + part.suffix, labels)
