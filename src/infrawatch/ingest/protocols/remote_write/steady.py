"""Fast path for requests with the same series as an earlier one: only the numbers are read.

Why the result is correct: a layout is created from a body that was fully decoded, and only if it
consists of known series, each with samples of one form (in 2.0 after the table of symbols). Another
body that differs only in the eight bytes of a value and the low seven bits of each byte of a time
has only one reading: the same series with other numbers.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.protocols.remote_write.batch import Batch, to_known_batch
from infrawatch.ingest.protocols.remote_write.fields import (
    FORMS,
    NUMBERS,
    TIME_BYTES,
    Fields,
    Form,
    Wire,
    to_time,
)
from infrawatch.ingest.protocols.remote_write.labels import KeyForm
from infrawatch.ingest.protocols.remote_write.messages import parse
from infrawatch.ingest.protocols.remote_write.samples import Samples
from infrawatch.ingest.series.cache import Space
from infrawatch.ingest.series.layouts import KEY_BYTES, Layouts, Place
from infrawatch.model.samples import Bools, Int64s, Positions
from infrawatch.store.columns.ragged import Runs

_MORE = 0x80
"""Set in every byte of a varint but its last."""

_MAX_SIZE_BYTES = 4
"""A size with more bytes is larger than a body."""

Inflated = bytes | memoryview
"""A body; only its beginning is ever copied."""

MARK_BYTES = 1024
"""More than the labels of nearly any series."""


class Kind(NamedTuple):
    """The parts specific to a version of remote write.

    `find_samples` locates the samples of a request's series, given the series and their keys: None
    unless each series is its key followed by samples of one form. `mark` extracts a part of the
    beginning of a body that recurs in the next one, but usually differs for other series.
    """

    request: type[Message]
    series_tag: int
    find_samples: Callable[[Wire, Sequence[bytes]], Fields | None]
    key_form: KeyForm
    mark: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Layout:
    """A body without its numbers: its bits are `constant` where `mask` is set.

    Series n has the next `counts[n]` samples. The time of sample i ends with the last of the
    `NUMBERS` at byte `numbers_at[i]`; its value is zero if `has_value[i]` is not set.
    """

    mask: NDArray[np.uint8]
    constant: bytes
    keys: Sequence[bytes]
    ids: Int64s
    counts: Positions
    numbers_at: Positions
    has_value: Bools

    def fits(self, body: Inflated) -> bool:
        """Whether a body of the same length differs only in its numbers."""
        # Of equal length, so this compares them; `==` would have to copy the array first.
        return self.constant.startswith((np.frombuffer(body, np.uint8) & self.mask).data)

    @property
    def held_bytes(self) -> int:
        columns = (self.ids, self.counts, self.numbers_at, self.has_value)
        texts = 2 * len(self.constant) + sum(map(len, self.keys)) + KEY_BYTES * len(self.keys)
        return texts + sum(column.nbytes for column in columns)


class Steady:
    """The request layouts of one tenant and format."""

    def __init__(self, layouts: Layouts, space: Space, kind: Kind) -> None:
        self._layouts = layouts
        self._space = space
        self._kind = kind

    def read(self, body: Inflated) -> Batch | None:
        """Read a body that fits the layout of an earlier one; None if it does not."""
        layout = self._layouts.find(self._place(body), Layout)
        if layout is None or not layout.fits(body):
            return None
        return _read(body, layout, self._kind.key_form)

    def teach(self, body: bytes, decoded: Decoded) -> None:
        """Let the layout of a decoded body be learned, if nothing of it was refused."""
        if not decoded.verdicts:
            decoded.learn = partial(self._learn, body, decoded.keys)

    def _learn(self, body: bytes, keys: Sequence[Hashable], ids: Int64s, *, are_new: bool) -> None:
        place = self._place(body)
        if not self._layouts.is_worth_it(place, are_new=are_new):
            return
        texts = [key for key in keys if isinstance(key, bytes)]
        layout = make_layout(self._kind, body, texts, ids)
        if layout is not None:
            self._layouts.add(place, layout)

    def _place(self, body: Inflated) -> Place:
        return self._space, len(body), self._kind.mark(bytes(body[:MARK_BYTES]))


def size_of_fields(text: bytes, tag: int, most: int) -> int:
    """The size of the fields with `tag` that a text begins with, counting at most `most`."""
    at, end = 0, len(text)
    for _ in range(most):
        if at + 2 >= end or text[at] != tag:
            break
        size, start = text[at + 1], at + 2
        if size & _MORE:  # more than two bytes are left to the careful path
            size, start = size & ~_MORE | text[at + 2] << 7, at + 3
        if start + size > end:
            break
        at = start + size
    return at


def make_layout(kind: Kind, body: bytes, keys: Sequence[bytes], ids: Int64s) -> Layout | None:
    """Create the layout of a decoded body; None if it has anything but these series' samples."""
    series = parse(kind.request, body).timeseries[:]
    if not keys or len(series) != len(keys):
        return None
    sizes = np.fromiter(map(len, series), np.intp, len(series))
    starts = _find_series(kind, body, sizes)
    if starts is None:
        return None
    fields = kind.find_samples(Wire.within(body, starts, starts + sizes), keys)
    if fields is None:
        return None
    runs = Runs.of(fields.counts)
    lengths = runs.spread(fields.lengths)
    at = runs.spread(fields.starts) + runs.indexes() * lengths
    numbers_at = np.zeros(len(at), np.intp)
    has_value = np.zeros(len(at), np.bool_)
    octets, mask = np.frombuffer(body, np.uint8), np.full(len(body), 0xFF, np.uint8)
    for form in FORMS:
        is_form = lengths == form.length
        if not is_form.any():
            continue
        which = slice(None) if is_form.all() else np.flatnonzero(is_form)  # slices cost nothing
        if not _loosen(mask, octets, at[which], form):
            return None
        numbers_at[which] = at[which] + form.time + TIME_BYTES - NUMBERS.itemsize
        has_value[which] = form.value is not None
    if numbers_at[0] < 0:
        return None
    return Layout(
        mask=mask,
        constant=(octets & mask).tobytes(),
        keys=keys,
        ids=ids,
        counts=fields.counts,
        numbers_at=numbers_at,
        has_value=has_value,
    )


def _loosen(mask: NDArray[np.uint8], octets: NDArray[np.uint8], at: Positions, form: Form) -> bool:
    """Exclude the numbers of samples from a mask; false if some sample is not of this form."""
    shared, loose = form.pattern()
    _pieces(mask, form.length)[at] = loose.view(f"V{form.length}")
    constant = _pieces(octets & mask, form.length)[at]
    return constant.tobytes() == shared.tobytes() * len(at)


def _pieces(octets: NDArray[np.uint8], length: int) -> NDArray[np.void]:
    """View bytes as pieces: the `length` bytes from each position."""
    return np.ndarray((len(octets) - length + 1,), f"V{length}", octets, strides=(1,))


def _find_series(kind: Kind, body: bytes, sizes: Positions) -> Positions | None:
    """Locate the series of a body; None if anything else follows the first of them."""
    headers = 2 + np.sum(sizes[:, np.newaxis] >= 1 << 7 * np.arange(1, _MAX_SIZE_BYTES), axis=1)
    ends = np.cumsum(headers + sizes)
    starts: Positions = len(body) - int(ends[-1]) + ends - sizes
    first = int(starts[0] - headers[0])
    if first < 0 or not _have_headers(kind, body, starts - headers, sizes):
        return None
    try:
        parse(kind.request, body[:first])
    except ValueError:  # the part before the series is incomplete
        return None
    return starts


def _have_headers(kind: Kind, body: bytes, at: Positions, sizes: Positions) -> bool:
    """Whether a tag is at each position, followed by the size as a minimal varint."""
    octets = np.frombuffer(body, np.uint8)
    are_headers = bool((octets[at] == kind.series_tag).all())
    for place in range(_MAX_SIZE_BYTES):
        rests = sizes >> 7 * place
        is_there = (rests > 0) | (place == 0)
        if not is_there.any():
            break
        expected = (rests & _MORE - 1) + np.where(rests >= _MORE, _MORE, 0)
        are_headers &= bool((octets[at[is_there] + 1 + place] == expected[is_there]).all())
    return are_headers


def _read(body: Inflated, layout: Layout, key_form: KeyForm) -> Batch:
    found = _pieces(np.frombuffer(body, np.uint8), NUMBERS.itemsize)[layout.numbers_at]
    numbers = found.view(NUMBERS)
    values = np.where(layout.has_value, numbers["value"], 0).view(np.float64)
    samples = Samples(layout.counts, to_time(numbers["time"], first_byte=2), values)
    return to_known_batch(layout.keys, layout.ids, samples, key_form)
