"""Remote write 1.0: every series includes the text of its labels.

In a steady state no label is parsed. Senders write the label fields of a series, the same bytes
every time, followed by its sample fields: so the label fields are the key of the series.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial

import numpy as np

from infrawatch.errors import MalformedBody
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.remote_write.batch import (
    MAX_SERIES,
    OFF_LOOP_BYTES,
    Batch,
    ParsedSeries,
    are_slow,
    parse_each,
    to_batch,
    too_large,
)
from infrawatch.ingest.protocols.remote_write.fields import (
    CONTINUATION_BIT,
    Fields,
    Regular,
    Wire,
    find_tails,
    read_samples,
)
from infrawatch.ingest.protocols.remote_write.label_fields import LABEL_TAG, find_ends
from infrawatch.ingest.protocols.remote_write.labels import (
    MAX_PAIRS,
    TOO_MANY,
    KeyForm,
    Pairs,
    to_text,
)
from infrawatch.ingest.protocols.remote_write.layouts import WireFormat, size_of_fields
from infrawatch.ingest.protocols.remote_write.messages import (
    LABEL,
    LABELS,
    METRIC_METADATA,
    SERIES_1,
    WRITE_REQUEST,
    parse,
    parse_series,
)
from infrawatch.ingest.protocols.remote_write.metadata import read_metric, to_metadata
from infrawatch.ingest.scheduling.loop_budget import MAX_NEW, check_budget
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.samples import Positions
from infrawatch.store.metadata import Metadata

_MAX_SIZE_BYTES = 4
"""A size with more bytes is larger than a body."""

_OFF_LOOP_SERIES = 10_000
"""Finding the labels of this many takes six milliseconds."""

_SHARED_LABELS = 4_096
_MAX_SHARED_BYTES = 256
"""Most labels are in many series, so the last ones of up to this size stay parsed: 2 MB at most."""


def decode(body: bytes, find: Find, *, on_loop: bool = False) -> Batch:
    """Read a `prometheus.WriteRequest`.

    Raises:
        MalformedBody: the body is not such a message.
        BatchTooLarge: more than 50,000 series, or a million samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > OFF_LOOP_BYTES)
    try:
        request = parse(WRITE_REQUEST, body)
    except ValueError as error:
        raise MalformedBody(f"the body is not a prometheus.WriteRequest: {error}") from None
    if max(len(request.timeseries), len(request.metadata)) > MAX_SERIES:
        raise too_large()
    check_budget(on_loop=on_loop, is_long=len(request.timeseries) > _OFF_LOOP_SERIES)
    series = request.timeseries[:]
    if body and not series and not request.metadata:
        raise MalformedBody(
            "the body has neither series nor metadata; if it is remote write 2.0, send it with "
            "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request"
        )
    check_budget(on_loop=on_loop, is_long=len(request.metadata) > MAX_NEW)
    verdicts = Verdicts()
    wire = Wire.of(series)
    keys, starts = _read_keys(series, wire, find)
    fields = Fields.between(wire, starts, wire.ends)
    is_whole = fields.ends == wire.ends
    samples, has_form = read_samples(wire, fields.kept(is_whole))
    regular = Regular.of(wire, fields, samples, is_whole & has_form)
    others = np.flatnonzero(~(is_whole & has_form)).tolist()
    check_budget(on_loop=on_loop, is_long=are_slow(others, series))
    parsed = parse_each(lambda index: _read_series(series[index], index, verdicts), others, keys)
    metadata = _read_metadata(request.metadata, verdicts)
    return to_batch(keys, regular, parsed, KEY_FORM, metadata, verdicts)


def _read_keys(series: Sequence[bytes], wire: Wire, find: Find) -> tuple[list[bytes], Positions]:
    """Return the label fields of each series, and where they end.

    A known key consisted of whole label fields when it was parsed. So if a series is a known key
    and a sample, there is no need to find them one by one. In a steady state nearly all series are
    like this. The first decides whether to try: looking up keys that contain samples takes long.
    """
    starts = wire.ends - find_tails(wire)
    if not series or None in find(_cut(series[:1], wire, starts[:1])):
        starts = find_ends(wire)
        return _cut(series, wire, starts), starts
    keys = _cut(series, wire, starts)
    known = find(keys)
    if None in known:
        others = np.flatnonzero([series_id is None for series_id in known])
        starts[others] = find_ends(wire.picked(others))
        keys = _cut(series, wire, starts)
    return keys, starts


def _cut(series: Sequence[bytes], wire: Wire, at: Positions) -> list[bytes]:
    sizes = (at - wire.starts[: len(at)]).tolist()
    return [one[:size] for one, size in zip(series, sizes, strict=True)]


def _signature(body: bytes) -> bytes:
    """The label fields of the first series."""
    start = 2 + sum(byte >= CONTINUATION_BIT for byte in body[1:_MAX_SIZE_BYTES])
    first = body[start:]
    return first[: size_of_fields(first, LABEL_TAG, MAX_PAIRS)]


def _read_series(series: bytes, index: int, verdicts: Verdicts) -> ParsedSeries:
    """Read a series with any fields in any order."""
    try:
        message = parse_series(SERIES_1, series)
    except ValueError as error:
        verdicts.add(Verdict(index, f"series {index}", "malformed_series", str(error)))
        return ParsedSeries()
    if len(message.labels) > MAX_PAIRS:
        samples = len(message.samples) + len(message.histograms)
        verdicts.add(Verdict(index, f"series {index}", *TOO_MANY, samples))
        return ParsedSeries()
    return ParsedSeries.of(SERIES_1(labels=message.labels).SerializeToString(), message)


def _to_pairs(key: bytes) -> Pairs:
    labels: Sequence[bytes] = parse(LABELS, key).labels[:]
    are_short = len(key) <= _MAX_SHARED_BYTES or max(map(len, labels)) <= _MAX_SHARED_BYTES
    return list(map(_to_shared_pair if are_short else _to_pair, labels))


def _to_pair(label: bytes) -> tuple[str, str]:
    message = parse(LABEL, label)
    return to_text(message.name), to_text(message.value)


_to_shared_pair = lru_cache(maxsize=_SHARED_LABELS)(_to_pair)

KEY_FORM = KeyForm(_to_pairs, partial(size_of_fields, tag=LABEL_TAG, max_fields=1))


def _read_metadata(messages: Iterable[bytes], verdicts: Verdicts) -> dict[str, Metadata]:
    """Read metadata by metric family, so without a histogram's `_bucket`, `_sum` or `_count`."""
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


WIRE_FORMAT = WireFormat(WRITE_REQUEST, b"\x0a", KEY_FORM, _signature)
