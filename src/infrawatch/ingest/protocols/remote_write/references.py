"""Label references: runs of varints, decoded for all series of a request in one pass."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.protocols.remote_write.fields import CONTINUATION_BIT, Wire
from infrawatch.ingest.protocols.remote_write.labels import MAX_PAIRS
from infrawatch.model.samples import Bools, Int64s, Positions
from infrawatch.store.columns.ragged import Runs

_TAG = 0x0A
_MAX_SHIFT = 28
"""A reference has 32 bits, and a varint seven in each byte."""

_BEYOND = 2**32

_MAX_BYTES = 512
"""Enough for the maximum number of references per series, to a table of two million symbols."""


class References(NamedTuple):
    """Series n has the next `counts[n]` of `values`, alternately of a name and of a value."""

    counts: Positions
    values: Int64s


def find_references(wire: Wire) -> tuple[Runs, Bools]:
    """Locate the references at the beginning of each series; also mark the series that have any."""
    starts, ends = wire.starts, wire.ends
    low, high = wire.bytes[starts + 1].astype(np.intp), wire.bytes[starts + 2].astype(np.intp)
    is_long = low >= CONTINUATION_BIT
    sizes = np.where(is_long, low - CONTINUATION_BIT + (high << 7), low)
    firsts = starts + 2 + is_long
    is_there = (wire.bytes[starts] == _TAG) & (sizes > 0) & (firsts + sizes <= ends)
    is_there &= sizes <= _MAX_BYTES
    return Runs(firsts, np.where(is_there, sizes, 0)), is_there


def read_references(wire: Wire, runs: Runs, symbols: int) -> tuple[References, Bools]:
    """Decode runs of references, none of them empty.

    Also marks the runs that are pairs of references to existing symbols, and not too many; the
    other runs are omitted.
    """
    encoded = wire.bytes[runs.positions()]
    runs = Runs.of(runs.counts)
    counts, values = _read_varints(encoded, runs)
    is_sound = (encoded[runs.lasts] < CONTINUATION_BIT) & (counts % 2 == 0)
    is_sound &= (counts <= 2 * MAX_PAIRS) & (Runs.of(counts).largest(values) < symbols)
    if is_sound.all():
        return References(counts, values), is_sound
    return References(counts[is_sound], values[Runs.of(counts).spread(is_sound)]), is_sound


def _read_varints(encoded: NDArray[np.uint8], runs: Runs) -> tuple[Positions, Int64s]:
    """Return the count and the numbers of each run; a truncated one at the end counts as well."""
    goes_on = encoded >= CONTINUATION_BIT
    goes_on[runs.lasts] = False
    begins = np.ones(len(encoded), np.bool_)
    begins[1:] = ~goes_on[:-1]
    at = np.flatnonzero(begins)
    bits = encoded.astype(np.int64) & ~CONTINUATION_BIT
    values = bits[at]
    longer = np.flatnonzero(goes_on[at])
    for shift in range(7, _MAX_SHIFT + 1, 7):
        if not longer.size:
            break
        at[longer] += 1
        values[longer] |= bits[at[longer]] << shift
        longer = longer[goes_on[at[longer]]]
    values[longer] = _BEYOND
    return np.add.reduceat(begins, runs.starts, dtype=np.intp), values
