"""Remote write 2.0: series refer to a table of symbols, which every request includes.

In a steady state no label is parsed here either: the key of a series is the concatenation of the
symbols that its labels refer to. Series of the usual form (references, then samples of one form,
then metadata) are decoded in one pass.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from infrawatch.errors import MalformedBody
from infrawatch.ingest.decoded import Find
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.remote_write.batch import (
    MAX_KEY_BYTES,
    MAX_SERIES,
    OFF_LOOP_BYTES,
    Batch,
    ParsedSeries,
    are_slow,
    parse_each,
    to_batch,
    too_large,
)
from infrawatch.ingest.protocols.remote_write.fields import Fields, Regular, Wire, read_samples
from infrawatch.ingest.protocols.remote_write.labels import (
    MAX_PAIRS,
    METRIC,
    TOO_MANY,
    KeyForm,
    Pairs,
    read_name,
    to_text,
)
from infrawatch.ingest.protocols.remote_write.layouts import WireFormat, size_of_fields
from infrawatch.ingest.protocols.remote_write.messages import (
    METADATA,
    REQUEST,
    SERIES_2,
    parse,
    parse_series,
)
from infrawatch.ingest.protocols.remote_write.metadata import read_metric, to_metadata
from infrawatch.ingest.protocols.remote_write.references import (
    References,
    find_references,
    read_references,
)
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.samples import Bools, Positions
from infrawatch.store.columns.ragged import Runs
from infrawatch.store.metadata import Metadata

_SYMBOL_TAG = 0x22
_METADATA_TAG = 0x2A

_MAX_SYMBOLS = 1_000_000
"""Many more than the series of a real request refer to."""

_SYMBOLS_OFF_LOOP = 50_000
"""Checking this many takes ten milliseconds."""

_END = b"\xff"
"""Terminates each text in a key: UTF-8 does not use this byte."""


def decode(body: bytes, find: Find, *, on_loop: bool = False) -> Batch:  # noqa: ARG001
    """Read an `io.prometheus.write.v2.Request`.

    Raises:
        MalformedBody: the body is not such a message.
        BatchTooLarge: more than 50,000 series, or a million samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > OFF_LOOP_BYTES)
    try:
        request = parse(REQUEST, body)
    except ValueError as error:
        raise MalformedBody(f"the body is not an io.prometheus.write.v2.Request: {error}") from None
    if len(request.timeseries) > MAX_SERIES or len(request.symbols) > _MAX_SYMBOLS:
        raise too_large()
    symbols, series = request.symbols[:], request.timeseries[:]
    if body and not symbols and not series:
        raise MalformedBody(
            "the body has neither symbols nor series; remote write 1.0 is sent with "
            "Content-Type: application/x-protobuf"
        )
    check_budget(on_loop=on_loop, is_long=len(symbols) > _SYMBOLS_OFF_LOOP)
    return _Reading(symbols, series).to_batch(on_loop=on_loop)


class _Reading:
    """The conversion of a request from bytes to columns."""

    def __init__(self, symbols: Sequence[bytes], series: Sequence[bytes]) -> None:
        self._symbols = symbols
        self._series = series
        self._keys = [b""] * len(series)
        self._metadata: dict[str, Metadata] = {}
        self._verdicts = Verdicts()

    def to_batch(self, *, on_loop: bool) -> Batch:
        wire = Wire.of(self._series)
        runs, fields, is_regular = _find_fields(wire)
        is_regular &= _END not in b"".join(self._symbols)
        samples, has_form = read_samples(wire, fields.kept(is_regular))
        regular = np.flatnonzero(is_regular & has_form)
        references, is_sound = read_references(wire, runs.picked(regular), len(self._symbols))
        regular = regular[is_sound]
        is_regular = np.zeros(len(self._series), np.bool_)
        is_regular[regular] = True
        self._name(regular, references)
        self._describe(regular, references, wire.ends - fields.ends)
        others = np.flatnonzero(~is_regular).tolist()
        check_budget(on_loop=on_loop, is_long=are_slow(others, self._series))
        parsed = parse_each(self._read_series, others, self._keys)
        picked = Regular.of(wire, fields, samples, is_regular)
        return to_batch(self._keys, picked, parsed, KEY_FORM, self._metadata, self._verdicts)

    def _name(self, regular: Positions, references: References) -> None:
        """Create the keys of series whose references have been read."""
        table = np.empty(len(self._symbols), object)
        table[:] = [symbol + _END for symbol in self._symbols]
        lengths = np.fromiter(map(len, table), np.intp, len(table))[references.values]
        if lengths.sum() > MAX_KEY_BYTES:
            raise too_large()
        joined = b"".join(table[references.values].tolist())
        ends = np.cumsum(lengths)[Runs.of(references.counts).lasts].tolist()
        keys = [joined[start:end] for start, end in pairwise([0, *ends])]
        if len(keys) == len(self._keys):
            self._keys = keys
            return
        for index, key in zip(regular.tolist(), keys, strict=True):
            self._keys[index] = key

    def _describe(self, regular: Positions, references: References, sizes: Positions) -> None:
        """Read the metadata of the last series of each metric; all should have the same."""
        is_metric = np.array([symbol == METRIC for symbol in self._symbols], np.bool_)
        owners = Runs.of(references.counts // 2).spread(regular)
        which = np.flatnonzero(is_metric[references.values[::2]] & (sizes[owners] > 0))
        metrics = references.values[1::2][which]
        last = dict(zip(metrics.tolist(), owners[which].tolist(), strict=True))
        for metric, index in last.items():
            encoded = self._series[index][2 - sizes[index] :]
            self._add_metadata(index, self._symbols[metric], encoded)

    def _add_metadata(self, index: int, metric: bytes, encoded: bytes) -> None:
        name = read_metric(metric)
        if isinstance(name, Flaw):
            return  # then the series is refused, and its verdict says why
        try:
            said = parse(METADATA, encoded)
            unit, help_text = self._symbols[said.unit_ref], self._symbols[said.help_ref]
        except (ValueError, IndexError) as error:
            is_reference = isinstance(error, IndexError)
            detail = "unit and help are places in `symbols`" if is_reference else str(error)
            locator = f"series {index}, metadata of {name}"
            self._verdicts.add(Verdict(index, locator, "malformed_metadata", detail, samples=0))
        else:
            self._metadata[name] = to_metadata(said.type, unit, help_text)

    def _read_series(self, index: int) -> ParsedSeries:
        """Read a series with any fields in any order."""
        try:
            message = parse_series(SERIES_2, self._series[index])
        except ValueError as error:
            self._verdicts.add(Verdict(index, f"series {index}", "malformed_series", str(error)))
            return ParsedSeries()
        pairs = self._resolve(message.labels_refs)
        if isinstance(pairs, Flaw):
            samples = len(message.samples) + len(message.histograms)
            self._verdicts.add(Verdict(index, f"series {index}", *pairs, samples))
            return ParsedSeries()
        metric = dict(pairs).get(METRIC)
        if message.metadata and metric:
            self._add_metadata(index, metric, message.metadata)
        return ParsedSeries.of(b"".join(text + _END for pair in pairs for text in pair), message)

    def _resolve(self, references: Sequence[int]) -> list[tuple[bytes, bytes]] | Flaw:
        """Return the labels that a series refers to, if their texts can form a key."""
        if len(references) > 2 * MAX_PAIRS:
            return TOO_MANY
        try:
            texts = [self._symbols[reference] for reference in references]
            pairs = list(zip(texts[::2], texts[1::2], strict=True))
        except (IndexError, ValueError):
            return Flaw("invalid_reference", "label references are pairs of places in `symbols`")
        if any(_END in text for text in texts):
            name = read_name([(to_text(name), to_text(value)) for name, value in pairs])
            return name if isinstance(name, Flaw) else Flaw("invalid_label_name", "not UTF-8")
        return pairs


def _find_fields(wire: Wire) -> tuple[Runs, Fields, Bools]:
    """Locate references and samples; also mark the series with at most metadata besides."""
    runs, is_regular = find_references(wire)
    fields = Fields.between(wire, runs.starts + runs.counts, wire.ends)
    return runs, fields, is_regular & (fields.counts > 0) & _ends_in_metadata(wire, fields.ends)


def _ends_in_metadata(wire: Wire, at: Positions) -> Bools:
    """Mark the series that end at `at`, or have only their metadata there."""
    left = wire.ends - at
    is_whole: Bools = left == 0
    is_whole |= (wire.bytes[at] == _METADATA_TAG) & (wire.bytes[at + 1] == left - 2)
    return is_whole


def _to_pairs(key: bytes) -> Pairs:
    texts = list(map(to_text, key.split(_END)))
    return list(zip(texts[0:-1:2], texts[1:-1:2], strict=True))


def _size_of_first(key: bytes) -> int:
    return key.find(_END, key.find(_END) + 1) + 1


KEY_FORM = KeyForm(_to_pairs, _size_of_first)


def _signature(body: bytes) -> bytes:
    """The first symbols, usually the names and values of the first series' labels."""
    return body[: size_of_fields(body, _SYMBOL_TAG, 2 * MAX_PAIRS)]


WIRE_FORMAT = WireFormat(REQUEST, b"\x2a", KEY_FORM, _signature)
