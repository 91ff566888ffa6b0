"""Sample fields as senders write them, decoded for all of a request in one pass.

A sample within a series is a field of the message: a tag, a length, and those of value (a double),
time and start time (varints, milliseconds) that are not zero, in ascending order. From 1971 to 2109
such a varint has six bytes, so a sample has one of four lengths, and each length has one form. All
other forms are left to protobuf.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.protocols.remote_write.samples import Samples
from infrawatch.model.samples import Bools, Int64s, Positions
from infrawatch.store.columns.ragged import Runs

Words = NDArray[np.uint64]

_PADDING = bytes(32)
"""Everything is read as words of eight bytes, and so slightly beyond the end of the fields."""


class Form(NamedTuple):
    """The layout of sample fields of one length.

    `head` holds the bytes before the value, or before the time if there is no value; the others are
    offsets, of the value's first byte and of the tags of the times.
    """

    length: int
    head: bytes
    time: int
    value: int | None = None
    start: int | None = None

    def mask(self) -> NDArray[np.uint8]:
        """Return a mask that selects the bits that all such fields share."""
        mask = np.full(self.length, 0xFF, np.uint8)
        if self.value is not None:
            mask[self.value : self.value + 8] = 0
        for at in (self.time, self.start):
            if at is not None:
                mask[at + 1 : at + 7] = CONTINUATION_BIT
        return mask


_WITH_VALUE = Form(18, b"\x12\x10\x09", value=3, time=11)
_WITHOUT_VALUE = Form(9, b"\x12\x07", time=2)
FORMS = (
    _WITH_VALUE,
    _WITHOUT_VALUE,
    Form(25, b"\x12\x17\x09", value=3, time=11, start=18),
    Form(16, b"\x12\x0e", time=2, start=9),
)
"""Most samples have a value and no start time; a value of 0 is omitted."""

_TIME_TAG, _START_TAG = 0x10, 0x18
CONTINUATION_BIT = 0x80
"""Set in every byte of a varint but its last."""

TIME_BYTES = 7
"""A time's tag and its varint."""

NUMBERS = np.dtype(
    {"names": ["value", "time"], "formats": ["<u8", "<u8"], "offsets": [1, 8], "itemsize": 16}
)
"""The 16 bytes that end with a time: in every form, a value is right before it.

The word `time` begins with the last byte of the value, and has the tag next.
"""

_HAS_FORM = np.isin(np.arange(512), [form.length for form in FORMS])


class Wire(NamedTuple):
    """The bytes of all series, joined; series n is at `starts[n]` up to `ends[n]`."""

    joined: bytes
    starts: Positions
    ends: Positions

    @classmethod
    def of(cls, series: Sequence[bytes]) -> Self:
        lengths = np.fromiter(map(len, series), np.intp, len(series))
        ends = np.cumsum(lengths)
        return cls(b"".join([*series, _PADDING]), ends - lengths, ends)

    def picked(self, which: Positions) -> Self:
        """Select some of the series."""
        return self._replace(starts=self.starts[which], ends=self.ends[which])

    @property
    def bytes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.joined, np.uint8)

    def words(self, positions: Positions) -> Words:
        """Read the eight bytes at each position as a little-endian number."""
        last = len(self.joined) - 8
        return np.ndarray((last + 1,), "<u8", self.joined, strides=(1,))[positions]


class Fields(NamedTuple):
    """Series n has `counts[n]` fields of `lengths[n]` bytes each, from `starts[n]` on."""

    starts: Positions
    lengths: Positions
    counts: Positions

    @classmethod
    def between(cls, wire: Wire, starts: Positions, ends: Positions) -> Self:
        """Assume fields as long as the first, as many as fit; none if it has no known form."""
        lengths = wire.bytes[starts + 1].astype(np.intp) + 2
        counts = np.where(_HAS_FORM[lengths], np.maximum(ends - starts, 0) // lengths, 0)
        return cls(starts, lengths, counts)

    @property
    def ends(self) -> Positions:
        return self.starts + self.lengths * self.counts

    def kept(self, which: Bools) -> Self:
        """Keep only the fields of some series."""
        return self._replace(counts=np.where(which, self.counts, 0))


class Outline(NamedTuple):
    """Where the samples of a request are: series n has `sizes[n]` bytes.

    The `fields` of each begin at an offset within their series.
    """

    sizes: Positions
    fields: Fields


class Regular(NamedTuple):
    """The series of usual form: their indexes in the request, and their samples.

    There is an `outline` if all series of the request are among them.
    """

    indexes: Positions
    samples: Samples
    outline: Outline | None

    @classmethod
    def of(cls, wire: Wire, fields: Fields, samples: Samples, which: Bools) -> Self:
        """Pick the regular series of a request."""
        if not which.all():
            return cls(np.flatnonzero(which), samples.picked(which), None)
        offsets = fields._replace(starts=fields.starts - wire.starts)
        outline = Outline(wire.ends - wire.starts, offsets)
        return cls(np.arange(len(which)), samples, outline)


def find_tails(wire: Wire) -> Positions:
    """Return the size of what looks like a sample without a start time at the end of each series.

    At most the size of the series; 0 if there is nothing like that.
    """
    sizes = np.zeros(len(wire.ends), np.intp)
    for form in (_WITHOUT_VALUE, _WITH_VALUE):
        at = np.maximum(wire.ends - form.length, wire.starts)
        is_form = _begins_with(form.head, wire.words(at))
        sizes[is_form] = (wire.ends - at)[is_form]
    return sizes


def read_samples(wire: Wire, fields: Fields) -> tuple[Samples, Bools]:
    """Decode all fields; also mark the series whose fields all have the form of their length."""
    positions, lengths = fields.starts, fields.lengths
    if (fields.counts != 1).any():
        runs = Runs.of(fields.counts)
        lengths = runs.spread(fields.lengths)
        positions = runs.spread(fields.starts) + runs.indexes() * lengths
    times, bits = np.zeros((2, len(positions)), np.int64)
    has_form = np.zeros(len(positions), np.bool_)
    for form in FORMS:
        which = np.flatnonzero(lengths == form.length)
        if len(which) == len(positions):  # usual: one form
            _read_form(wire, form, positions, (times, bits, has_form))
            break
        if which.size:
            parts = times[which], bits[which], has_form[which]
            _read_form(wire, form, positions[which], parts)
            times[which], bits[which], has_form[which] = parts
    is_regular = np.ones(len(fields.counts), np.bool_)
    if not has_form.all():
        is_regular[Runs.of(fields.counts).spread(np.arange(len(is_regular)))[~has_form]] = False
    return Samples(fields.counts, times, bits.view(np.float64)), is_regular


def _read_form(wire: Wire, form: Form, at: Positions, into: tuple[Int64s, Int64s, Bools]) -> None:
    times, bits, has_form = into
    words = wire.words(at + form.time)
    times[:] = to_time(words)
    has_form[:] = _is_time(words, _TIME_TAG)
    if form.start is not None:
        has_form &= _is_time(wire.words(at + form.start), _START_TAG)
    has_form &= _begins_with(form.head, wire.words(at))
    if form.value is not None:
        bits[:] = wire.words(at + form.value).view(np.int64)


def _begins_with(head: bytes, words: Words) -> Bools:
    mask = np.uint64((1 << 8 * len(head)) - 1)
    begins: Bools = words & mask == np.uint64(int.from_bytes(head, "little"))
    return begins


def _is_time(words: Words, tag: int) -> Bools:
    """Whether words are the tag and a varint of six bytes; the eighth byte is ignored."""
    marks = words & np.uint64(0x0080_8080_8080_80FF)
    is_time: Bools = marks == np.uint64(0x0000_8080_8080_8000 | tag)
    return is_time


def to_time(words: Words, *, first_byte: int = 1) -> Int64s:
    """Decode varints of six bytes, which have seven bits each, the lowest first.

    A varint begins at the word's `first_byte`, usually after its tag. First neighbouring bytes are
    joined to pairs of 14 bits, then the three pairs.
    """
    words = words >> np.uint64(8 * first_byte)
    pairs = words & np.uint64(0x007F_007F_007F)
    pairs |= words >> np.uint64(1) & np.uint64(0x3F80_3F80_3F80)
    time = pairs & np.uint64(0x3FFF)
    time |= pairs >> np.uint64(2) & np.uint64(0x3FFF << 14)
    time |= pairs >> np.uint64(4) & np.uint64(0x3FFF << 28)
    return time.view(np.int64)
