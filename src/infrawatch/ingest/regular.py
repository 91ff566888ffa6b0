"""JSON batches as most encoders write them: names stay bytes, only the numbers are read.

In such a body every series object is `{"metric"`, its head, `,"samples":[`, what is inside, `]}`.
Heads repeat from batch to batch, so they are the keys of their series: one that was read and
checked once is only looked up. That more than halves the cost of a scrape.

Why this reads what is there, and refuses what is not JSON: a head is by itself, between
`{"metric"` and `}`, a valid object without samples. The insides are read by Pydantic, down to the
last byte, as one array of arrays of samples, `[[…],[…]]`. That each array is one inside, and not
two halves with a whole in between, is seen from the brackets: the n-th inside opens as many as the
n-th array has samples, for every n, so every `],[` that we put between two insides opens an array.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from infrawatch.errors import BatchTooLarge
from infrawatch.ingest import schemas
from infrawatch.ingest.decoded import Decoded, Find, NameOf
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s
from infrawatch.store.metadata import Metadata

Positions = NDArray[np.intp]

_END = b"]}]}"
_FORMS = (
    (b'{"series":[{"metric"', b']},{"metric"', b',"samples":['),
    (b'{"series": [{"metric"', b']}, {"metric"', b', "samples": ['),
)
"""How a body begins, what lies between two series, and between head and inside: as compact
encoders write it, and as Python's json does by default."""


_MANY_KEYS = 2 * schemas.MAX_LABELS
"""More than any good series has."""


def decode_regular(body: bytes, unit_ns: int, find: Find) -> Decoded | None:
    """Read a body of the regular form; None when it is of another form, or something is wrong."""
    split = _split(body)
    if split is None:
        return None
    heads, insides = split
    new = [n for n, known in enumerate(find(heads)) if known is None]
    if any(is_flooded(heads[n]) for n in new):
        return None
    try:
        checked = {n: _read(heads[n]) for n in new}
        all_samples = schemas.ALL_SAMPLES.validate_json(b"[[" + b"],[".join(insides) + b"]]")
    except ValidationError:
        return None
    counts, times, values = _to_columns(all_samples)
    opened = np.fromiter(map(bytes.count, insides, repeat(b"[")), np.intp, len(insides))
    if not np.array_equal(opened, counts):
        return None
    return Decoded(
        keys=heads,
        name_of=_namer(heads, checked),
        locate=lambda n, sample: (n, f"/series/{n}/samples/{sample}/0"),
        counts=counts,
        times=times,
        values=values,
        unit_ns=unit_ns,
        metadata=to_metadata(checked.values()),
    )


def is_flooded(text: bytes) -> bool:
    """Whether it has so many keys to an object that an error for each would fill memory.

    A good text may be taken for one, so this only says to read with care.
    """
    return text.count(b":") > _MANY_KEYS * (1 + text.count(b"{"))


def _read(head: bytes) -> Mapping[str, Any]:
    return schemas.HEAD.validate_json(b'{"metric"' + head + b"}")


def _namer(heads: Sequence[bytes], checked: Mapping[int, Mapping[str, Any]]) -> NameOf:
    def name_of(number: int) -> SeriesName:
        # The cache may have forgotten since what it knew: such a head was checked back then.
        head = checked.get(number) or _read(heads[number])
        return SeriesName.of(head["metric"], head.get("labels", {}))

    return name_of


def to_columns(all_series: Sequence[Mapping[str, Any]]) -> tuple[Positions, Int64s, Float64s]:
    """How many samples each series has, and all their times and values, in order."""
    return _to_columns(list(map(itemgetter("samples"), all_series)))


def _to_columns(all_samples: Sequence[Sequence[Any]]) -> tuple[Positions, Int64s, Float64s]:
    counts = np.fromiter(map(len, all_samples), np.intp, len(all_samples))
    samples = list(chain.from_iterable(all_samples))
    if len(samples) > schemas.MAX_BATCH_SAMPLES:
        raise batch_too_large()
    return (
        counts,
        np.fromiter(map(itemgetter(0), samples), np.int64, len(samples)),
        np.fromiter(map(itemgetter(1), samples), np.float64, len(samples)),
    )


def to_metadata(all_series: Iterable[Mapping[str, Any]]) -> dict[str, Metadata]:
    """What a batch says of its metrics beside their samples."""
    return {
        one["metric"]: Metadata(
            one.get("type", "unknown"), one.get("unit", ""), one.get("help", "")
        )
        for one in all_series
        if "type" in one or "unit" in one or "help" in one
    }


def batch_too_large() -> BatchTooLarge:
    return BatchTooLarge(
        f"a batch holds at most {schemas.MAX_BATCH_SERIES} series and "
        f"{schemas.MAX_BATCH_SAMPLES} samples: send it in parts"
    )


def _split(body: bytes) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
    """The head of each series, and the inside of its samples."""
    text = body.rstrip(b" \t\r\n")
    for beginning, boundary, separator in _FORMS:
        if text.startswith(beginning) and text.endswith(_END):
            series = text[len(beginning) : -len(_END)].split(boundary)
            if len(series) > schemas.MAX_BATCH_SERIES:
                return None
            heads, _, insides = zip(*map(bytes.partition, series, repeat(separator)), strict=True)
            return heads, insides
    return None
