"""The text format: bytes → columns, verdicts and metadata."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic_core import to_json

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.exposition import grammar
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

_MS_NS = 1_000_000

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
_NO_TYPE = Flaw("unknown_value", f"a type is one of {', '.join(one.decode() for one in _TYPES)}")


@dataclass(slots=True)
class _Reading:
    """The samples read so far: each list has one entry per sample."""

    now_ms: int
    key_prefix: bytes
    keys: list[bytes] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)

    def refuse(self, line: int, flaw: Flaw, *, samples: int = 1) -> None:
        self.verdicts.add(Verdict(line, f"line {line}", flaw.code, flaw.detail, samples))


def decode(
    body: bytes, now_ms: int, extra_labels: Mapping[str, str], *, on_loop: bool = False
) -> Decoded:
    """Read a body; all errors become verdicts, with lines numbered from 1.

    Samples without a time get `now_ms`. NaN and infinities are stored like other values.
    `extra_labels` are added to every series and replace its labels of the same name.

    Raises:
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > _OFF_LOOP_BYTES)
    # JSON contains no NUL, so the first one separates the extra labels from the name.
    reading = _Reading(now_ms, to_json(dict(sorted(extra_labels.items()))) + b"\0")
    for number, line in enumerate(body.split(b"\n"), start=1):
        text = line.strip(b" \t\r")
        if text.startswith(b"#"):
            _read_comment(text, number, reading)
        elif text:
            _read_sample(text, number, reading)
    return _to_decoded(reading, extra_labels)


def _read_sample(text: bytes, number: int, reading: _Reading) -> None:
    series = grammar.SERIES.match(text)
    if series is None:
        reading.refuse(number, _NO_SERIES)
        return
    sample = _read_numbers(text[series.end() :].split(), reading.now_ms)
    if isinstance(sample, Flaw):
        reading.refuse(number, sample)
        return
    value, time_ms = sample
    reading.keys.append(reading.key_prefix + series[0])
    reading.times_ms.append(time_ms)
    reading.values.append(value)
    reading.lines.append(number)


def _read_numbers(words: Sequence[bytes], now_ms: int) -> tuple[float, int] | Flaw:
    """Read value and time from the words after the name of a series."""
    if not words or not _VALUE.fullmatch(words[0]):
        return _NO_VALUE
    value = float(words[0])
    if math.isinf(value) and b"i" not in words[0].lower():
        return _TOO_LARGE
    if len(words) == 1:
        return value, now_ms
    if len(words) > 2 or not _TIME.fullmatch(words[1]):  # noqa: PLR2004  # value and time
        return _NO_END
    time_ms = int(words[1])
    return (value, time_ms) if -(2**63) <= time_ms < 2**63 else _TIME_OUT_OF_RANGE


def _read_comment(text: bytes, number: int, reading: _Reading) -> None:
    """Read the type or help of a metric; other comments are ignored."""
    comment = grammar.COMMENT.fullmatch(text)
    if comment is None:
        return
    name = grammar.to_name(b"{%b}" % comment[2] if comment[2].startswith(b'"') else comment[2], {})
    if isinstance(name, Flaw):  # reported for its samples
        return
    known = reading.metadata.get(name.metric, Metadata())
    if comment[1] == b"HELP":
        reading.metadata[name.metric] = known._replace(help=_to_help(comment[3]))
    elif comment[3] in _TYPES:
        reading.metadata[name.metric] = known._replace(type=_TYPES[comment[3]])
    else:
        reading.refuse(number, _NO_TYPE, samples=0)


def _to_help(text: bytes) -> str:
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
        times=np.array(reading.times_ms, np.int64),
        values=np.array(reading.values, np.float64),
        unit_ns=_MS_NS,
        metadata=reading.metadata,
        verdicts=reading.verdicts,
    )
