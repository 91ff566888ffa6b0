"""Remote write 2.0: series refer to a table of texts, which every request brings anew.

In a steady state no label is read here either: the key of a series is the texts its labels refer
to, one after the other. What is usual, references, then samples of one form, then metadata, is
decoded for all series at once.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from infrawatch.errors import MalformedBody
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.names import Flaw, to_series_name
from infrawatch.ingest.protocols.remote_write.batch import Careful, Request
from infrawatch.ingest.protocols.remote_write.fields import Fields, Wire, read_samples
from infrawatch.ingest.protocols.remote_write.labels import METRIC, Pairs, describe, read_name
from infrawatch.ingest.protocols.remote_write.messages import METADATA, REQUEST, SERIES_2, parse
from infrawatch.ingest.protocols.remote_write.metadata import to_metadata
from infrawatch.ingest.protocols.remote_write.references import (
    References,
    find_references,
    read_references,
)
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.store.metadata import Metadata
from infrawatch.store.ragged import Bools, Positions, Runs

Symbols = Sequence[bytes]

_METADATA_TAG = 0x2A

_END = b"\xff"
"""Ends each text in a key: UTF-8 does not use this byte."""


def decode(body: bytes, _find: Find) -> Request:
    """Read an `io.prometheus.write.v2.Request`.

    Raises:
        MalformedBody: it is none.
    """
    try:
        request = parse(REQUEST, body)
    except ValueError as error:
        raise MalformedBody(f"the body is not an io.prometheus.write.v2.Request: {error}") from None
    symbols, series = request.symbols[:], request.timeseries[:]
    if body and not symbols and not series:
        raise MalformedBody(
            "the body has neither symbols nor series; remote write 1.0 is sent with "
            "Content-Type: application/x-protobuf"
        )
    return _Reading(symbols, series).to_request()


class _Reading:
    """A request on its way from bytes to columns."""

    def __init__(self, symbols: Sequence[bytes], series: Sequence[bytes]) -> None:
        self._symbols = symbols
        self._series = series
        self._keys = [b""] * len(series)
        self._metadata: dict[str, Metadata] = {}
        self._verdicts = Verdicts()

    def to_request(self) -> Request:
        wire = Wire.of(self._series)
        runs, is_regular = find_references(wire)
        fields = Fields.between(wire, runs.starts + runs.counts, wire.ends)
        is_regular &= (fields.counts > 0) & _ends_in_metadata(wire, fields.ends)
        is_regular &= _END not in b"".join(self._symbols)
        samples, has_form = read_samples(wire, fields.kept(is_regular))
        regular = np.flatnonzero(is_regular & has_form)
        references, is_sound = read_references(wire, runs.picked(regular), len(self._symbols))
        regular = regular[is_sound]
        self._name(regular, references)
        self._describe(regular, references, fields.ends - wire.starts)
        irregular = sorted(set(range(len(self._series))).difference(regular.tolist()))
        return Request(
            keys=self._keys,
            samples=samples,
            careful={index: self._read_carefully(index) for index in irregular},
            to_pairs=_to_pairs,
            metadata=self._metadata,
            verdicts=self._verdicts,
        )

    def _name(self, regular: Positions, references: References) -> None:
        """Make the keys of series whose references are read."""
        table = np.empty(len(self._symbols), object)
        table[:] = [symbol + _END for symbol in self._symbols]
        lengths = np.fromiter(map(len, table), np.intp, len(table))[references.values]
        joined = b"".join(table[references.values].tolist())
        ends = np.cumsum(lengths)[Runs.of(references.counts).lasts].tolist()
        for index, (start, end) in zip(regular.tolist(), pairwise([0, *ends]), strict=True):
            self._keys[index] = joined[start:end]

    def _describe(self, regular: Positions, references: References, ends: Positions) -> None:
        """Read the metadata of one series of each metric: they are all the same."""
        is_metric = np.array([symbol == METRIC for symbol in self._symbols], np.bool_)
        which = np.flatnonzero(is_metric[references.values[::2]])
        owners = Runs.of(references.counts // 2).spread(regular)[which]
        metrics = references.values[1::2][which]
        for metric, index in dict(zip(metrics.tolist(), owners.tolist(), strict=True)).items():
            said = self._series[index][ends[index] + 2 :]
            if said:
                self._add_metadata(self._symbols[metric], said)

    def _add_metadata(self, metric: bytes, said: bytes) -> None:
        name = metric.decode(errors="surrogateescape")
        if not name.isprintable() and isinstance(to_series_name(name, ()), Flaw):
            return  # the series itself is refused, and says why
        ...
def _ends_in_metadata(wire: Wire, at: Positions) -> Bools:
    """Which series end there, or have their metadata there and then end."""
    left = wire.ends - at
    size = wire.bytes[at + 1].astype(np.intp)
    return (left == 0) | ((wire.bytes[at] == _METADATA_TAG) & (size + 2 == left))


def _to_keys(symbols: Symbols, references: References) -> list[bytes]:
    table = np.empty(len(symbols), object)
    table[:] = [symbol + _END for symbol in symbols]
    lengths = np.fromiter(map(len, table), np.intp, len(table))[references.values]
    joined = b"".join(table[references.values].tolist())
    ends = np.cumsum(lengths)[Runs.of(references.counts).lasts].tolist()
    return [joined[start:end] for start, end in pairwise([0, *ends])]


def _to_pairs(key: bytes) -> Pairs:
    texts = key.split(_END)
    return list(zip(texts[0:-1:2], texts[1:-1:2], strict=True))
