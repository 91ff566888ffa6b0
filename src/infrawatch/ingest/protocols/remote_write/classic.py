"""The native histograms of a request, as the samples of classic ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.names import Flaw, to_series_name
from infrawatch.ingest.protocols.remote_write.batch import MS_NS, Request
from infrawatch.ingest.protocols.remote_write.histograms import Part, to_classic
from infrawatch.ingest.protocols.remote_write.labels import Pairs, describe, read_name
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.ragged import Positions

_MAX_SAMPLES = 200_000
"""What the histograms of one request may become: a few bytes of them can make many samples."""

_LE = "le"


class Classics(NamedTuple):
    """Samples of histograms, and where the last of each one stands."""

    decoded: Decoded
    lasts: Positions


@dataclass(frozen=True, slots=True)
class _Histogram:
    """One native histogram: where it stood, what it is called, and what became of it."""

    index: int
    locator: str
    key: bytes
    name: SeriesName
    time_ms: int
    parts: Sequence[Part]


def to_classics(request: Request) -> Classics:
    """The histograms of a request, each as one sample each of several series."""
    verdicts = Verdicts()
    histograms = list(_read_all(request, verdicts))
    ends = np.cumsum([len(one.parts) for one in histograms], dtype=np.intp)
    samples = [(one, part) for one in histograms for part in one.parts]
    decoded = Decoded(
        keys=[_to_key(one, part) for one, part in samples],
        name_of=lambda number: _to_name(*samples[number]),
        locate=lambda number, _: (samples[number][0].index, samples[number][0].locator),
        counts=np.ones(len(samples), np.intp),
        times=np.array([one.time_ms for one, _ in samples], np.int64),
        values=np.array([part.value for _, part in samples], np.float64),
        unit_ns=MS_NS,
        verdicts=verdicts,
    )
    return Classics(decoded, ends - 1)


def _read_all(request: Request, verdicts: Verdicts) -> Iterator[_Histogram]:
    """Histograms that can be stored; those that cannot become verdicts."""
    room = _MAX_SAMPLES
    for index, series in request.careful.items():
        pairs = request.to_pairs(series.key) if series.histograms else ()
        name = _read_name(pairs)
        for place, native in enumerate(series.histograms):
            locator = f"series {index}, histogram {place} of {describe(pairs)}"
            parts = name if isinstance(name, Flaw) else _to_parts(native, room)
            if isinstance(name, Flaw) or isinstance(parts, Flaw):
                verdicts.add(Verdict(index, locator, *parts))
                continue
            room -= len(parts)
            yield _Histogram(index, locator, series.key, name, native.timestamp, parts)


def _read_name(pairs: Pairs) -> SeriesName | Flaw:
    """The histogram's own name, if all of its series can be named after it."""
    name = read_name(pairs)
    if isinstance(name, Flaw):
        return name
    longest = to_series_name(f"{name.metric}_bucket", [*name.labels, (_LE, "+Inf")])
    return longest if isinstance(longest, Flaw) else name


def _to_parts(native: Any, room: int) -> Sequence[Part] | Flaw:
    parts = to_classic(native)
    if not isinstance(parts, Flaw) and len(parts) > room:
        return Flaw(
            "too_many_buckets",
            f"the histograms of a request may become {_MAX_SAMPLES} samples: send fewer at a time",
        )
    return parts


def _to_key(histogram: _Histogram, part: Part) -> bytes:
    return f"{part.suffix}\0{part.le}\0".encode() + histogram.key


def _to_name(histogram: _Histogram, part: Part) -> SeriesName:
    labels = dict(histogram.name.labels)
    if part.le is not None:
        labels[_LE] = part.le
    return SeriesName.of(histogram.name.metric + part.suffix, labels)
