"""The text format, and OpenMetrics: bytes → columns, verdicts and metadata."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic_core import to_json

from infrawatch.ingest.decoded import MS_NS, Decoded
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.exposition import grammar, openmetrics
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

_US_NS = 1_000

_OFF_LOOP_BYTES = 16 * 1024
"""Reading this much takes a millisecond, or 15 with two bytes per line."""

_MAX_HELP_CHARACTERS = 1_024
"""As in the native format; longer help texts are truncated, since only people read them."""

_TYPES = {
    b"counter": "counter",
    b"gauge": "gauge",
    b"histogram": "histogram",
    b"summary": "summary",
    b"untyped": "unknown",
    b"unknown": "unknown",
}

_VALUE = re.compile(
    rb"[+-]?(?:(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:e[+-]?[0-9]++)?+|inf(?:inity)?|nan)",
    re.IGNORECASE,
)
_TIME = re.compile(rb"-?[0-9]{1,40}")

_NO_SERIES = Flaw(
    "malformed_line", 'expected a metric, its labels and a value: name{label="text"} 1.5'
)
_NO_VALUE = Flaw("malformed_line", "expected a number behind the name, +Inf, -Inf or NaN")
_NO_END = Flaw("malformed_line", "expected nothing behind the value but a time in milliseconds")
_TIME_OUT_OF_RANGE = Flaw("out_of_range", "the time does not fit into 64 bits")
_TOO_LARGE = Flaw("not_finite", "the value is beyond float64; infinity is written +Inf")
_NO_SECONDS = Flaw("malformed_line", "expected nothing behind the value but a time in seconds")
_CUT_OFF = Flaw("malformed_line", "expected # EOF at the end: a part of the page may be missing")
_TOO_LATE = Flaw("malformed_line", "expected nothing after # EOF")


@dataclass(slots=True)
class _Reading:
    """The samples read so far: each list has one entry per sample."""

    now: int
    key_prefix: bytes
    is_openmetrics: bool
    has_ended: bool = False
    keys: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    types: dict[str, bytes] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)

    def refuse(self, line: int, flaw: Flaw, *, samples: int = 1) -> None:
        self.verdicts.add(Verdict(line, f"line {line}", flaw.code, flaw.detail, samples))


def decode(
    body: bytes,
    now_ms: int,
    extra_labels: Mapping[str, str],
    *,
    is_openmetrics: bool = False,
    on_loop: bool = False,
) -> Decoded:
    """Read a body; all errors become verdicts, with lines numbered from 1.

    Samples without a time get `now_ms`. NaN and infinities are stored like other values; exemplars
    are not stored. `extra_labels` are added to every series and replace its labels of the same
    name.

    Raises:
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > _OFF_LOOP_BYTES)
    # JSON contains no NUL, so the first one separates the extra labels from the name.
    prefix = to_json(dict(sorted(extra_labels.items()))) + b"\0"
    reading = _Reading(now_ms * 1000 if is_openmetrics else now_ms, prefix, is_openmetrics)
    lines = body.split(b"\n")
    for number, line in enumerate(lines, start=1):
        text = line.strip(b" \t\r")
        if reading.has_ended and text:
            reading.refuse(number, _TOO_LATE, samples=not text.startswith(b"#"))
        elif text.startswith(b"#"):
            _read_comment(text, number, reading)
        elif text:
            _read_sample(text, number, reading)
    if is_openmetrics and not reading.has_ended:
        reading.refuse(len(lines), _CUT_OFF, samples=0)
    return _to_decoded(reading, extra_labels)


def _read_sample(text: bytes, number: int, reading: _Reading) -> None:
    series = grammar.SERIES.match(text)
    if series is None:
        reading.refuse(number, _NO_SERIES)
        return
    numbers = text[series.end() :]
    if reading.is_openmetrics:
        numbers = openmetrics.without_exemplar(numbers)
    sample = _read_numbers(numbers.split(), reading)
    if isinstance(sample, Flaw):
        reading.refuse(number, sample)
        return
    value, time = sample
    reading.keys.append(reading.key_prefix + series[0])
    reading.times.append(time)
    reading.values.append(value)
    reading.lines.append(number)


def _read_numbers(words: Sequence[bytes], reading: _Reading) -> tuple[float, int] | Flaw:
    """Read value and time from the words after the name of a series."""
    if not words or not _VALUE.fullmatch(words[0]):
        return _NO_VALUE
    value = float(words[0])
    if math.isinf(value) and b"i" not in words[0].lower():
        return _TOO_LARGE
    if len(words) == 1:
        return value, reading.now
    time = _find_time(words[1], reading) if len(words) == 2 else None  # noqa: PLR2004  # and value
    if time is None:
        return _NO_SECONDS if reading.is_openmetrics else _NO_END
    return (value, round(time)) if -(2**63) <= time < 2**63 else _TIME_OUT_OF_RANGE


def _find_time(word: bytes, reading: _Reading) -> float | None:
    """Read a time, in milliseconds or, of OpenMetrics, in microseconds; None if it is none."""
    if reading.is_openmetrics:
        return openmetrics.find_time_us(word)
    return int(word) if _TIME.fullmatch(word) else None


def _read_comment(text: bytes, number: int, reading: _Reading) -> None:
    """Read the metadata of a metric, or the end of a page; other comments are ignored."""
    reading.has_ended = reading.is_openmetrics and text == openmetrics.END
    comment = grammar.COMMENT.fullmatch(text)
    if comment is None:
        return
    name = grammar.to_name(b"{%b}" % comment[2] if comment[2].startswith(b'"') else comment[2], {})
    if isinstance(name, Flaw):  # reported for its samples
        return
    known = reading.metadata.get(name.metric, Metadata())
    types = openmetrics.TYPES if reading.is_openmetrics else _TYPES
    if comment[1] == b"HELP":
        reading.metadata[name.metric] = known._replace(help=_to_text(comment[3]))
    elif comment[1] == b"UNIT":
        if reading.is_openmetrics:
            reading.metadata[name.metric] = known._replace(unit=_to_text(comment[3]))
    elif comment[3] in types:
        reading.types[name.metric] = comment[3]
        reading.metadata[name.metric] = known._replace(type=types[comment[3]])
    else:
        expected = ", ".join(one.decode() for one in types)
        reading.refuse(number, Flaw("unknown_value", f"a type is one of {expected}"), samples=0)


def _to_text(text: bytes) -> str:
    storable = text.decode(errors="replace").replace("\0", "")
    return grammar.unescaped(storable)[:_MAX_HELP_CHARACTERS]


def _to_decoded(reading: _Reading, extra_labels: Mapping[str, str]) -> Decoded:
    keys, lines = reading.keys, reading.lines

    def name_of(number: int) -> SeriesName | list[Verdict]:
        key = keys[number].removeprefix(reading.key_prefix)
        name = grammar.to_name(key, extra_labels)
        if isinstance(name, SeriesName):
            return name
        return [Verdict(lines[number], f"line {lines[number]}", name.code, name.detail)]

    return Decoded(
        keys=keys,
        name_of=name_of,
        locate=lambda number, _sample: (lines[number], f"line {lines[number]}"),
        counts=np.ones(len(keys), np.intp),
        times=np.array(reading.times, np.int64),
        values=np.array(reading.values, np.float64),
        unit_ns=_US_NS if reading.is_openmetrics else MS_NS,
        metadata=_to_metadata(reading),
        verdicts=reading.verdicts,
    )


def _to_metadata(reading: _Reading) -> Mapping[str, Metadata]:
    if not reading.is_openmetrics:
        return reading.metadata
    return openmetrics.by_series(reading.metadata, reading.types)
