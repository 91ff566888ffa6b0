"""Fast path for requests with the same series as an earlier one: only the numbers are read.

Why the result is correct: a layout is created from a body that was fully decoded, and only if it
consists of known series, each with samples of one form (in 2.0 after the table of symbols). Another
body that differs only in the eight bytes of a value and the low seven bits of each byte of a time
has only one reading: the same series with other numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from infrawatch.ingest.decoded import Learn
from infrawatch.ingest.protocols.remote_write.batch import Batch, to_known_batch
from infrawatch.ingest.protocols.remote_write.fields import (
    CONTINUATION_BIT,
    FORMS,
    NUMBERS,
    TIME_BYTES,
    Outline,
    to_time,
)
from infrawatch.ingest.protocols.remote_write.labels import KeyForm
from infrawatch.ingest.protocols.remote_write.messages import parse
from infrawatch.ingest.protocols.remote_write.samples import Samples
from infrawatch.ingest.series.layouts import KEY_BYTES, Layouts
from infrawatch.model.samples import Int64s, Positions
from infrawatch.store.columns.ragged import Runs

Inflated = bytes | memoryview
"""A body; only its beginning is ever copied."""

SIGNATURE_BYTES = 1024
"""More than the labels of nearly any series."""


class WireFormat(NamedTuple):
    """The parts specific to a version of remote write.

    `series_tag` precedes each series of a `request`. `signature_of` returns the part of the
    beginning of a body that recurs in the next one, but usually differs for other series.
    """

    request: type[Message]
    series_tag: bytes
    key_form: KeyForm
    signature_of: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class RequestLayout:
    """A body without its numbers: its bits are `constant` where `mask` is set.

    Series n has the next `counts[n]` samples. The time of sample i ends with the last of the
    `NUMBERS` at byte `numbers_at[i]`; the samples at `zeros` have no value, which means zero.
    """

    mask: NDArray[np.uint8]
    constant: bytes
    keys: Sequence[bytes]
    ids: Int64s
    counts: Positions
    numbers_at: Positions
    zeros: Positions

    def fits(self, body: Inflated) -> bool:
        """Whether a body of the same length differs only in its numbers."""
        # Of equal length, so this compares them; `==` would have to copy the array first.
        return self.constant.startswith((np.frombuffer(body, np.uint8) & self.mask).data)

    @property
    def held_bytes(self) -> int:
        columns = (self.ids, self.counts, self.numbers_at, self.zeros)
        texts = 2 * len(self.constant) + sum(map(len, self.keys)) + KEY_BYTES * len(self.keys)
        return texts + sum(column.nbytes for column in columns)


def read_by_layout(body: Inflated, layouts: Layouts, wire_format: WireFormat) -> Batch | None:
    """Read a body that fits the layout of an earlier one; None if it does not."""
    layout = layouts.find(_signature(wire_format, body), RequestLayout)
    if layout is None or not layout.fits(body):
        return None
    return _read(body, layout, wire_format.key_form)


def learner(body: bytes, batch: Batch, layouts: Layouts, wire_format: WireFormat) -> Learn | None:
    """Return what learns the layout of a decoded body; None if any of it was refused."""
    decoded, outline = batch.decoded, batch.outline
    if outline is None or decoded.verdicts:
        return None
    keys = [key for key in decoded.keys if isinstance(key, bytes)]
    to_layout = partial(make_layout, wire_format, body, outline, keys)
    return partial(layouts.learn, _signature(wire_format, body), to_layout)


def _signature(wire_format: WireFormat, body: Inflated) -> tuple[int, bytes]:
    return len(body), wire_format.signature_of(bytes(body[:SIGNATURE_BYTES]))


def size_of_fields(text: bytes, tag: int, max_fields: int) -> int:
    """The size of the fields with `tag` that a text begins with, up to `max_fields` of them."""
    at, end = 0, len(text)
    for _ in range(max_fields):
        if at + 2 >= end or text[at] != tag:
            break
        size, start = text[at + 1], at + 2
        if size & CONTINUATION_BIT:  # more than two bytes are left to the careful path
            size, start = size & ~CONTINUATION_BIT | text[at + 2] << 7, at + 3
        if start + size > end:
            break
        at = start + size
    return at


def make_layout(
    wire_format: WireFormat, body: bytes, outline: Outline, keys: Sequence[bytes], ids: Int64s
) -> RequestLayout | None:
    """Create the layout of a decoded body; None if anything follows its series."""
    series_at = _find_series(wire_format, body, outline.sizes) if keys else None
    if series_at is None:
        return None
    fields = outline.fields
    runs = Runs.of(fields.counts)
    lengths = runs.spread(fields.lengths)
    at = runs.spread(series_at + fields.starts) + runs.indexes() * lengths
    numbers_at = np.zeros(len(at), np.intp)
    has_value = np.zeros(len(at), np.bool_)
    mask = np.full(len(body), 0xFF, np.uint8)
    for form in FORMS:
        is_form = lengths == form.length
        if not is_form.any():
            continue
        which = slice(None) if is_form.all() else np.flatnonzero(is_form)  # slices cost nothing
        _pieces(mask, form.length)[at[which]] = form.mask().view(f"V{form.length}")
        numbers_at[which] = at[which] + form.time + TIME_BYTES - NUMBERS.itemsize
        has_value[which] = form.value is not None
    if numbers_at[0] < 0:
        return None
    return RequestLayout(
        mask=mask,
        constant=(np.frombuffer(body, np.uint8) & mask).tobytes(),
        keys=keys,
        ids=ids,
        counts=fields.counts,
        numbers_at=numbers_at,
        zeros=np.flatnonzero(~has_value),
    )


def _pieces(octets: NDArray[np.uint8], length: int) -> NDArray[np.void]:
    """View bytes as pieces: the `length` bytes from each position."""
    return np.ndarray((len(octets) - length + 1,), f"V{length}", octets, strides=(1,))


def _find_series(wire_format: WireFormat, body: bytes, sizes: Positions) -> Positions | None:
    """Locate the series of a body; None unless it ends with them, and nothing lies between them."""
    listed = sizes.tolist()
    head_of = {size: wire_format.series_tag + _to_varint(size) for size in set(listed)}
    heads = [head_of[size] for size in listed]
    lengths = np.fromiter(map(len, heads), np.intp, len(heads))
    ends = np.cumsum(lengths + sizes)
    first = len(body) - int(ends[-1])
    starts = first + ends - sizes
    if first < 0 or not all(map(body.startswith, heads, (starts - lengths).tolist())):
        return None
    try:
        parse(wire_format.request, body[:first])
    except ValueError:  # the part before the series is incomplete
        return None
    return starts


def _to_varint(number: int) -> bytes:
    more = number >> 7
    return bytes([number & 0x7F | CONTINUATION_BIT]) + _to_varint(more) if more else bytes([number])


def _read(body: Inflated, layout: RequestLayout, key_form: KeyForm) -> Batch:
    found = _pieces(np.frombuffer(body, np.uint8), NUMBERS.itemsize)[layout.numbers_at]
    numbers = found.view(NUMBERS)
    bits = numbers["value"].copy()
    bits[layout.zeros] = 0
    times_ms = to_time(numbers["time"], first_byte=2)
    samples = Samples(layout.counts, times_ms, bits.view(np.float64))
    return to_known_batch(layout.keys, layout.ids, samples, key_form)
