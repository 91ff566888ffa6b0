"""Remote write 1.0: every series brings the text of its labels.

In a steady state no label is read. What senders write of a series are its label fields, the same
bytes every time, and then its sample fields: so the label fields are the key of the series.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from infrawatch.errors import MalformedBody
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.names import Flaw
from infrawatch.ingest.protocols.remote_write.batch import (
    MAX_SERIES,
    Careful,
    Request,
    gather,
    too_large,
)
from infrawatch.ingest.protocols.remote_write.fields import Fields, Wire, read_samples
from infrawatch.ingest.protocols.remote_write.labels import MAX_PAIRS, TOO_MANY, Pairs
from infrawatch.ingest.protocols.remote_write.messages import (
    METRIC_METADATA,
    SERIES_1,
    WRITE_REQUEST,
    parse,
    parse_series,
)
from infrawatch.ingest.protocols.remote_write.metadata import read_metric, to_metadata
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.store.metadata import Metadata
from infrawatch.store.ragged import Positions

_LABEL_TAG, _SAMPLE_TAG = 0x0A, 0x12
_WITH_VALUE, _WITHOUT_VALUE = 18, 9
"""Bytes of a usual sample field: one of value zero is written without it."""

_MORE = 0x80
"""Set in every byte of a varint but its last."""


def decode(body: bytes, find: Find) -> Request:
    """Read a `prometheus.WriteRequest`.

    Raises:
        MalformedBody: it is none.
        BatchTooLarge: more than 50,000 series.
    """
    try:
        request = parse(WRITE_REQUEST, body)
    except ValueError as error:
        raise MalformedBody(f"the body is not a prometheus.WriteRequest: {error}") from None
    if max(len(request.timeseries), len(request.metadata)) > MAX_SERIES:
        raise too_large()
    series = request.timeseries[:]
    if body and not series and not request.metadata:
        raise MalformedBody(
            "the body has neither series nor metadata; if it is remote write 2.0, send it with "
            "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request"
        )
    wire, verdicts = Wire.of(series), Verdicts()
    keys, key_bytes = _split(series, wire, find)
    fields = Fields.between(wire, wire.starts + key_bytes, wire.ends)
    is_regular = fields.ends == wire.ends
    samples, has_form = read_samples(wire, fields.kept(is_regular))
    irregular = np.flatnonzero(~(is_regular & has_form)).tolist()
    return Request(
        keys=keys,
        samples=samples,
        careful=gather(lambda index: _read_carefully(series[index], index, verdicts), irregular),
        to_pairs=_to_pairs,
        metadata=_read_metadata(request.metadata, verdicts),
        verdicts=verdicts,
    )


def _split(series: Sequence[bytes], wire: Wire, find: Find) -> tuple[list[bytes], Positions]:
    """What of each series is its key, and how long that is.

    Nearly always one sample follows the labels, with a value or, if that is zero, without. So we
    cut it off first and look whether a known key is left: a key that is known was nothing but
    whole label fields when it was read, so what follows can be nothing but whole fields either.
    """
    keys = [one[:-_WITH_VALUE] for one in series]
    key_bytes = wire.ends - wire.starts - _WITH_VALUE
    for index in _end_in_zeros(wire):
        keys[index] = series[index][:-_WITHOUT_VALUE]
        key_bytes[index] += _WITH_VALUE - _WITHOUT_VALUE
    known = find(keys)
    if None in known:
        for index, series_id in enumerate(known):
            if series_id is None:
                key_bytes[index] = end = _end_of_labels(series[index])
                keys[index] = series[index][:end]
    return keys, key_bytes


def _end_in_zeros(wire: Wire) -> list[int]:
    tag, size = wire.bytes[wire.ends - _WITHOUT_VALUE], wire.bytes[wire.ends - _WITHOUT_VALUE + 1]
    return np.flatnonzero((tag == _SAMPLE_TAG) & (size == _WITHOUT_VALUE - 2)).tolist()


def _end_of_labels(series: bytes) -> int:
    """Where the label fields end that a series begins with, if there are not too many."""
    at, end = 0, len(series)
    for _ in range(MAX_PAIRS):
        if at + 2 >= end or series[at] != _LABEL_TAG:
            break
        size, start = series[at + 1], at + 2
        if size & _MORE:  # more than two bytes are left to the careful way
            size, start = size & ~_MORE | series[at + 2] << 7, at + 3
        if start + size > end:
            break
        at = start + size
    return at


def _read_carefully(series: bytes, index: int, verdicts: Verdicts) -> Careful:
    """Read a series whose fields are in another order, or other fields."""
    try:
        message = parse_series(SERIES_1, series)
    except ValueError as error:
        verdicts.add(Verdict(index, f"series {index}", "malformed_series", str(error)))
        return Careful()
    if len(message.labels) > MAX_PAIRS:
        samples = len(message.samples) + len(message.histograms)
        verdicts.add(Verdict(index, f"series {index}", *TOO_MANY, samples))
        return Careful()
    return Careful(
        key=SERIES_1(labels=message.labels).SerializeToString(),
        times_ms=[sample.timestamp for sample in message.samples],
        value_bits=[sample.value for sample in message.samples],
        histograms=message.histograms,
        exemplars=len(message.exemplars),
    )


def _to_pairs(key: bytes) -> Pairs:
    return [(label.name, label.value) for label in parse(SERIES_1, key).labels]


def _read_metadata(messages: Iterable[bytes], verdicts: Verdicts) -> dict[str, Metadata]:
    """By the name of a metric family: of a histogram without `_bucket`, `_sum` or `_count`."""
    metadata = {}
    for place, encoded in enumerate(messages):
        locator = f"metadata {place}"
        try:
            message = parse(METRIC_METADATA, encoded)
        except ValueError as error:
            verdicts.add(Verdict(place, locator, "malformed_metadata", str(error), samples=0))
            continue
        metric = read_metric(message.metric)
        if isinstance(metric, Flaw):
            verdicts.add(Verdict(place, locator, *metric, samples=0))
        else:
            metadata[metric] = to_metadata(message.type, message.unit, message.help)
    return metadata
