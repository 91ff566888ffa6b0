"""Label fields in remote write 1.0: located for all series of a request in one pass."""

import numpy as np

from infrawatch.ingest.protocols.remote_write.fields import CONTINUATION_BIT, Wire
from infrawatch.ingest.protocols.remote_write.labels import MAX_PAIRS
from infrawatch.model.samples import Bools, Positions

LABEL_TAG = 0x0A


def find_ends(wire: Wire) -> Positions:
    """Return where the label fields that each series begins with end, after at most `MAX_PAIRS`."""
    found, which = wire.starts.copy(), np.arange(len(wire.starts))
    at, ends = wire.starts, wire.ends
    for _ in range(MAX_PAIRS):
        at, is_label = _pass_field(wire, at, ends)
        if not is_label.all():
            which, at, ends = which[is_label], at[is_label], ends[is_label]
        if not which.size:
            break
        found[which] = at
    return found


def _pass_field(wire: Wire, at: Positions, ends: Positions) -> tuple[Positions, Bools]:
    """Return where the fields at these positions end; also mark those that are whole labels.

    A size of more than two bytes is left to the careful path.
    """
    words = wire.words(at).view(np.int64)
    sizes, nexts = words >> 8 & 0xFF, at + 2
    is_label = words & 0xFF == LABEL_TAG
    is_long = sizes >= CONTINUATION_BIT
    if is_long.any():
        is_label &= ~is_long | (words >> 16 & CONTINUATION_BIT == 0)
        sizes = np.where(
            is_long, sizes - CONTINUATION_BIT + (words >> 16 & 0x7F) * CONTINUATION_BIT, sizes
        )
        nexts += is_long
    nexts += sizes
    is_label &= nexts <= ends
    return nexts, is_label
