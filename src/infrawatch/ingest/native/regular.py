"""Fast path for native JSON batches as most encoders write them: only the numbers are parsed.

In such a body every series object is `{"metric"`, a descriptor, `,"samples":[`, the samples, `]}`.
Descriptors repeat from batch to batch, so they serve as the keys of their series: a descriptor that
was parsed and checked once is only looked up afterwards. This more than halves the cost of a
scrape.

Why the result is correct, and invalid JSON is not accepted: Pydantic validates that each new
descriptor, between `{"metric"` and `}`, is a valid object without samples. The samples of all
series, joined by commas, must be a sequence of `[time,value]` with nothing else in between, and the
samples of each series must end where a sample ends. Valid bodies in any other form take the general
path.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

import numpy as np
from pydantic import ValidationError

from infrawatch.errors import BatchTooLarge
from infrawatch.ingest import schemas
from infrawatch.ingest.decoded import Decoded, Find, NameOf
from infrawatch.ingest.decoding.numbers import MAX_WIDTH, read_array, read_digits, windows
from infrawatch.ingest.native.layouts import BatchLayout
from infrawatch.ingest.scheduling.loop_budget import find_known
from infrawatch.ingest.series.layouts import FEWEST_PIECES, Layouts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s, Positions
from infrawatch.store.metadata import Metadata

_END = b"]}]}"
_FORMS = (
    (b'{"series":[{"metric"', b']},{"metric"', b',"samples":['),
    (b'{"series": [{"metric"', b']}, {"metric"', b', "samples": ['),
)
"""The beginning of a body, the boundary between two series, and the separator between a descriptor
and its samples: as written by compact encoders, and by Python's `json` by default."""


_COMMA, _OPENING, _CLOSING = b",[]"
_MANY_KEYS = 2 * schemas.MAX_LABELS
"""More than any valid series has."""


def decode_regular(
    body: bytes,
    unit_ns: int,
    find: Find,
    layouts: Layouts | None = None,
    *,
    on_loop: bool = False,
) -> Decoded | None:
    """Read a body in the regular form; None if it has another form or is invalid.

    Raises:
        BatchTooLarge: more than 50,000 samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    split = _split(body)
    if split is None:
        return None
    series, separator = split
    signature = len(series), series[0].rpartition(separator)[0]
    layout = layouts and layouts.find(signature, BatchLayout)
    rests = layout and layout.stripped(series)
    if layout and rests:
        return _to_decoded(layout.keys, rests, {}, unit_ns, layout.ids)
    # From the right: samples are mostly shorter than descriptors.
    keys, _, insides = zip(*map(bytes.rpartition, series, repeat(separator)), strict=True)
    ids = find_known(find, keys, on_loop=on_loop)
    new = [n for n, series_id in enumerate(ids) if series_id is None]
    if any(has_too_many_keys(keys[n]) for n in new):
        return None
    try:
        checked = {n: _read(keys[n]) for n in new}
    except ValidationError:
        return None
    decoded = _to_decoded(keys, insides, checked, unit_ns)
    if decoded and layouts and len(series) >= FEWEST_PIECES:
        to_layout = partial(BatchLayout.of, keys, separator)
        decoded.learn = partial(layouts.learn, signature, to_layout)
    return decoded


def _to_decoded(
    descriptors: Sequence[bytes],
    insides: Sequence[bytes],
    checked: Mapping[int, Mapping[str, Any]],
    unit_ns: int,
    ids: Int64s | None = None,
) -> Decoded | None:
    samples = _read_samples(insides)
    if samples is None:
        return None
    counts, times, values = samples
    return Decoded(
        keys=descriptors,
        name_of=_namer(descriptors, checked),
        locate=lambda n, sample: (n, f"/series/{n}/samples/{sample}/0"),
        counts=counts,
        times=times,
        values=values,
        unit_ns=unit_ns,
        metadata=to_metadata(checked.values()),
        ids=ids,
    )


def has_too_many_keys(text: bytes) -> bool:
    """Whether a text has so many keys per object that an error for each would fill memory.

    A valid text may be flagged as well, so the result only selects the careful path.
    """
    return text.count(b":") > _MANY_KEYS * (1 + text.count(b"{"))


def _read(descriptor: bytes) -> Mapping[str, Any]:
    return schemas.DESCRIPTOR.validate_json(b'{"metric"' + descriptor + b"}")


def _namer(descriptors: Sequence[bytes], checked: Mapping[int, Mapping[str, Any]]) -> NameOf:
    def name_of(number: int) -> SeriesName:
        # A key evicted from the cache since the look-up was checked when it was first added.
        descriptor = checked.get(number) or _read(descriptors[number])
        return SeriesName.of(descriptor["metric"], descriptor.get("labels", {}))

    return name_of


def _read_samples(insides: Sequence[bytes]) -> tuple[Positions, Int64s, Float64s] | None:
    """Read the samples of each series; None unless all are regular and all times equally wide."""
    joined = b",".join(insides)
    if b" " in joined:  # as Python's `json` writes; numbers contain no commas
        insides = [inside.replace(b", ", b",") for inside in insides]
        joined = b",".join(insides)
    text = bytearray(joined + b",")  # every sample is `[time,value],`
    width = joined.find(b",") - 1
    closing = _find_samples(text, width)
    if closing is None:
        return None
    ends = np.cumsum(np.fromiter(map(len, insides), np.intp, len(insides)) + 1) - 1
    counts = np.searchsorted(closing, ends)
    if (closing[counts - 1] != ends - 1).any():
        return None
    numbers = _read_numbers(text, width, closing)
    return None if numbers is None else (np.diff(counts, prepend=0), *numbers)


def _find_samples(text: bytearray, width: int) -> Positions | None:
    """Find where samples with times of `width` digits end; None if there is anything else."""
    octets = np.frombuffer(text, np.uint8)
    closing = np.flatnonzero(octets == _CLOSING)
    if not 0 < width <= MAX_WIDTH or not closing.size or closing[-1] != len(text) - 2:
        return None
    if len(closing) > schemas.MAX_BATCH_SAMPLES:
        raise batch_too_large()
    opening = np.append(0, closing[:-1] + 2)
    is_regular = (
        (closing - opening).min() > width
        and np.count_nonzero(octets == _OPENING) == len(closing)
        and np.count_nonzero(octets == _COMMA) == 2 * len(closing)
        and (octets[opening] == _OPENING).all()
        and (octets[opening + width + 1] == _COMMA).all()
        and (octets[closing + 1] == _COMMA).all()
    )
    return closing if is_regular else None


def _read_numbers(
    text: bytearray, width: int, closing: Positions
) -> tuple[Int64s, Float64s] | None:
    """Read the times and values that `_find_samples` located; overwrites the text."""
    octets = np.frombuffer(text, np.uint8)
    # Each sample begins with `[`, its time and a comma.
    every, opening = windows(text, width + 2), np.append(0, closing[:-1] + 2)
    digits = every[opening][:, 1:-1]
    times = read_digits(digits)
    has_zero = width > 1 and (digits[:, 0] == ord("0")).any()
    if times is None or has_zero or times.max() >= 2**63:
        return None
    every[opening] = ord(" ")
    octets[closing] = ord(" ")
    octets[-1] = _CLOSING
    values = read_array(b"[" + text)
    if values is None or len(values) != len(times):
        return None
    return times.astype(np.int64), values


def to_columns(all_series: Sequence[Mapping[str, Any]]) -> tuple[Positions, Int64s, Float64s]:
    """Return the number of samples of each series, and all times and values, in order."""
    all_samples = list(map(itemgetter("samples"), all_series))
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
    """Collect the metadata of the metrics in a batch."""
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


def _split(body: bytes) -> tuple[Sequence[bytes], bytes] | None:
    """Split a body into its series; also return the separator of descriptor and samples."""
    text = body.rstrip(b" \t\r\n")
    for beginning, boundary, separator in _FORMS:
        if text.startswith(beginning) and text.endswith(_END):
            series = text[len(beginning) : -len(_END)].split(boundary)
            return (series, separator) if len(series) <= schemas.MAX_BATCH_SERIES else None
    return None
