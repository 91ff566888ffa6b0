"""Requests of remote write 1.0 with the series of one before them: only the numbers are read.

Why that is safe: a layout is made of a body that was read, and only if it is nothing but series,
each of a known key (its label fields) and then samples of one form. Another body with the same
bytes, but for the eight of every value and the low seven bits of every byte of a time, can be read
in one way only: as the same series with other numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.decoded import Find
from infrawatch.ingest.layouts import Layout, Layouts, Place
from infrawatch.ingest.protocols.remote_write.batch import Batch, to_batch
from infrawatch.ingest.protocols.remote_write.fields import (
    WITH_VALUE_BYTES,
    WITHOUT_VALUE_BYTES,
    to_time,
)
from infrawatch.ingest.protocols.remote_write.messages import WRITE_REQUEST, parse
from infrawatch.ingest.protocols.remote_write.samples import Piece, Samples
from infrawatch.ingest.protocols.remote_write.version1 import size_of_labels, to_pairs
from infrawatch.ingest.series_cache import Space
from infrawatch.ingest.verdicts import Verdicts
from infrawatch.store.ragged import Positions, Runs

_SERIES_TAG = 0x0A
_MORE = 0x80
"""Set in every byte of a varint but its last."""

_MAX_SIZE_BYTES = 4
"""A size with more bytes is larger than a body."""

_FIRST_BYTES = 1024
"""More than the labels of nearly any series take."""

_VALUE_AT, _WORD_AT = -15, -8
"""Where a sample's value begins, and the word that ends with its time, from the sample's end."""


class _Form(NamedTuple):
    """A sample as bytes: where `mask` has bits they are those of `constant`, elsewhere numbers."""

    constant: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    @classmethod
    def of(cls, constant: str, mask: str) -> "_Form":
        return cls(*(np.frombuffer(bytes.fromhex(one), np.uint8) for one in (constant, mask)))


_TIME, _TIME_MASK = "10 80 80 80 80 80 00", "ff 80 80 80 80 80 80"
_FORMS = {
    WITH_VALUE_BYTES: _Form.of(f"121009 {8 * '00'} {_TIME}", f"ffffff {8 * '00'} {_TIME_MASK}"),
    WITHOUT_VALUE_BYTES: _Form.of(f"1207 {_TIME}", f"ffff {_TIME_MASK}"),
}


class _Series(NamedTuple):
    """Where each series ends, and the samples at its end: how many, of how many bytes each."""

    ends: Positions
    samples: Positions
    sample_bytes: Positions


class Steady:
    """What the senders of one tenant repeat."""

    def __init__(self, layouts: Layouts, space: Space) -> None:
        self._layouts = layouts
        self._space = space

    def read(self, body: bytes) -> Batch | None:
        """Read a body that is like one before it; None if it is not."""
        layout = self._layouts.find(self._place(body))
        if layout is None or not layout.fits(body):
            return None
        return _read(body, layout)

    def learn(self, body: bytes, batch: Batch, find: Find) -> None:
        """Remember a body that was read otherwise, if the like of it keeps coming."""
        place = self._place(body)
        if not self._layouts.is_worth_it(place):
            return
        keys = [key for key in batch.decoded.keys if isinstance(key, bytes)]
        ids = find(keys)
        layout = None if None in ids else make_layout(body, keys, ids)
        if layout is not None:
            self._layouts.add(place, layout)

    def _place(self, body: bytes) -> Place:
        """What tells most bodies apart: their length, and the labels of the first series."""
        start = 2 + sum(byte >= _MORE for byte in body[1:_MAX_SIZE_BYTES])
        first = body[start : start + _FIRST_BYTES]
        return self._space, len(body), first[: size_of_labels(first)]


def make_layout(body: bytes, keys: Sequence[bytes], ids: Sequence[int | None]) -> Layout | None:
    """The layout of a body that was read; None if it holds anything but known series like these."""
    series = _find_series(body, keys)
    if series is None:
        return None
    ends, counts, sizes = series
    runs = Runs.of(counts)
    ends = runs.spread(ends) - runs.spread(sizes) * (runs.spread(counts) - runs.indexes() - 1)
    sizes = runs.spread(sizes)
    octets = np.frombuffer(body, np.uint8)
    mask = np.full(len(body), 0xFF, np.uint8)
    for size, form in _FORMS.items():
        where = ends[sizes == size][:, np.newaxis] + np.arange(-size, 0)
        if (octets[where] & form.mask != form.constant).any():
            return None
        mask[where] = form.mask
    return Layout(
        mask=mask,
        constant=(octets & mask).tobytes(),
        keys=keys,
        ids=np.array(ids, np.int64),
        counts=counts,
        ends=ends,
        has_value=sizes == WITH_VALUE_BYTES,
    )


def _find_series(body: bytes, keys: Sequence[bytes]) -> _Series | None:
    """The series of a body that is these, each the key and samples of one size, and no more."""
    sizes = np.array(list(map(len, parse(WRITE_REQUEST, body).timeseries)), np.intp)
    if not keys or len(sizes) != len(keys):
        return None
    headers = 2 + np.sum(sizes[:, np.newaxis] >= 1 << 7 * np.arange(1, _MAX_SIZE_BYTES), axis=1)
    ends = np.cumsum(headers + sizes)
    starts = ends - sizes
    if ends[-1] != len(body) or not _have_headers(body, starts - headers, sizes):
        return None
    if not all(map(body.startswith, keys, starts.tolist())):
        return None
    key_sizes = np.array(list(map(len, keys)), np.intp)
    samples, rests = np.divmod(sizes - key_sizes, WITH_VALUE_BYTES)
    is_zero = (samples == 0) & (rests == WITHOUT_VALUE_BYTES)
    if not (is_zero | (samples > 0) & (rests == 0)).all():
        return None
    sample_bytes = np.where(is_zero, WITHOUT_VALUE_BYTES, WITH_VALUE_BYTES)
    return _Series(ends, np.where(is_zero, 1, samples), sample_bytes)


def _have_headers(body: bytes, at: Positions, sizes: Positions) -> bool:
    """Whether a tag stands at each place, and then the size as the shortest varint there is."""
    octets = np.frombuffer(body, np.uint8)
    are_headers = bool((octets[at] == _SERIES_TAG).all())
    for place in range(_MAX_SIZE_BYTES):
        rests = sizes >> 7 * place
        is_there = (rests > 0) | (place == 0)
        expected = (rests & _MORE - 1) + np.where(rests >= _MORE, _MORE, 0)
        are_headers &= bool((octets[at[is_there] + 1 + place] == expected[is_there]).all())
    return are_headers


def _read(body: bytes, layout: Layout) -> Batch:
    words = np.ndarray((len(body) - 7,), "<u8", body, strides=(1,))
    times = to_time(words[layout.ends + _WORD_AT] >> np.uint64(8))
    values = words[np.where(layout.has_value, layout.ends + _VALUE_AT, 0)]
    values = np.where(layout.has_value, values, 0).view(np.float64)
    piece = Piece(np.arange(len(layout.keys)), Samples(layout.counts, times, values))
    batch = to_batch(layout.keys, [piece], {}, to_pairs, {}, Verdicts())
    batch.decoded.ids = layout.ids
    return batch
