"""The content of decoded batches, in a form that can be compared."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.native import decode as native
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

Samples = Sequence[tuple[int, bytes]]
"""Times as they came, and the bits of the values."""


class Content(NamedTuple):
    """What a batch contains: its valid series, and what is wrong."""

    series: list[tuple[SeriesName, Samples]]
    wrong: list[tuple[int, str, str]]
    rejected_samples: int
    metadata: dict[str, Metadata]
    pointers: list[str]


def nothing_known(keys: Sequence[object]) -> list[int | None]:
    return [None] * len(keys)


def content_of(decoded: Decoded) -> Content:
    wrong = list(decoded.verdicts)
    series: list[tuple[SeriesName, Samples]] = []
    pointers: list[str] = []
    start = 0
    for number, count in enumerate(decoded.counts.tolist()):
        name = decoded.name_of(number)
        samples = slice(start, start + count)
        start += count
        if not isinstance(name, SeriesName):
            wrong += name
            continue
        values = [struct.pack("<d", value) for value in decoded.values[samples].tolist()]
        series.append((name, list(zip(decoded.times[samples].tolist(), values, strict=True))))
        pointers += [decoded.locate(number, place)[1] for place in range(count)]
    return Content(
        series,
        sorted((one.index, one.locator, one.code) for one in wrong),
        sum(one.samples for one in wrong),
        dict(decoded.metadata),
        pointers,
    )


def decoded_carefully(body: bytes, precision: str = "ms") -> Decoded:
    """Read a JSON batch without any of the short cuts."""
    verdicts = Verdicts()
    return native._to_decoded(list(native._read_carefully(body, verdicts)), verdicts, precision)


def content_or_refusal(body: bytes, *, carefully: bool) -> Content | type[InfraWatchError]:
    """The content of a JSON batch, or the kind of error it is refused with."""
    try:
        if carefully:
            return content_of(decoded_carefully(body))
        return content_of(native.decode_json(body, "ms", nothing_known))
    except InfraWatchError as error:
        return type(error)


def verdicts_on(body: bytes, *, lines: bool = False) -> list[Verdict]:
    decoded = (
        native.decode_ndjson(body, "ms") if lines else native.decode_json(body, "ms", nothing_known)
    )
    found = list(decoded.verdicts)
    for number in range(len(decoded.counts)):
        name = decoded.name_of(number)
        if not isinstance(name, SeriesName):
            found += name
    return found
