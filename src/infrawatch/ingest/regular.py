"""JSON batches as most encoders write them: names stay bytes, only the numbers are read.

In such a body every series object is its head, `{"metric":"…","labels":{…}`, followed by
`,"samples":[`. Heads repeat from batch to batch, so they are the keys of their series: one that
was read and checked once is only looked up. That halves the cost of a scrape.

Why leaving heads out is safe: each one is by itself, with a closing brace, a valid JSON object
without samples. So the body is valid exactly when it is valid with `{` in the place of each head,
and in that form Pydantic reads all of it, down to the last byte. The form has no strings but the
keys of objects, and as many of those as there are heads, and one: each head's `samples`, and the
`series` they all are in. So there is no series without a head, nothing is said twice (of equal keys
JSON readers drop all but the last), and the n-th head belongs to the n-th series.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
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

_BEGINNING = b'{"metric"'
_SEPARATORS = (b',"samples":[', b', "samples": [')
"""As compact encoders write it, and as Python's json does by default."""


def decode_regular(body: bytes, unit_ns: int, find: Find) -> Decoded | None:
    """Read a body of the regular form; None when it is of another form, or something is wrong."""
    split = _split(body)
    if split is None:
        return None
    heads, numbers = split
    if numbers.count(b'"') != 2 * (len(heads) + 1):
        return None
    try:
        checked = {n: _read(heads[n]) for n, known in enumerate(find(heads)) if known is None}
        all_series = schemas.ALL_NUMBERS.validate_json(numbers)["series"]
    except ValidationError:
        return None
    counts, times, values = to_columns(all_series)
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


def _read(head: bytes) -> Mapping[str, Any]:
    return schemas.HEAD.validate_json(head + b"}")


def _namer(heads: Sequence[bytes], checked: Mapping[int, Mapping[str, Any]]) -> NameOf:
    def name_of(number: int) -> SeriesName:
        # The cache may have forgotten since what it knew: such a head was checked back then.
        head = checked.get(number) or _read(heads[number])
        return SeriesName.of(head["metric"], head.get("labels", {}))

    return name_of


def to_columns(all_series: Sequence[Mapping[str, Any]]) -> tuple[Positions, Int64s, Float64s]:
    """How many samples each series has, and all their times and values, in order."""
    lists = list(map(itemgetter("samples"), all_series))
    counts = np.fromiter(map(len, lists), np.intp, len(lists))
    samples = list(chain.from_iterable(lists))
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


def _split(body: bytes) -> tuple[list[bytes], bytes] | None:
    """The heads of a body, and what is left of it with `{` in the place of each."""
    separator = next((one for one in _SEPARATORS if one in body), None)
    if separator is None:
        return None
    parts = body.split(separator)
    last = parts.pop()
    starts = [part.rfind(_BEGINNING) for part in parts]
    if -1 in starts or len(parts) > schemas.MAX_BATCH_SERIES:
        return None
    heads = [part[start:] for part, start in zip(parts, starts, strict=True)]
    between = [part[:start] for part, start in zip(parts, starts, strict=True)]
    return heads, (b"{" + separator[1:]).join((*between, last))
