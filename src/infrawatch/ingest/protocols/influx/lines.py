"""Reading line protocol line by line: the full grammar, with reasons for refused lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from re import Match

import numpy as np

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.decoding.names import MAX_NAME_CHARACTERS, Flaw
from infrawatch.ingest.protocols.influx import grammar
from infrawatch.ingest.protocols.influx.explain import explain
from infrawatch.ingest.protocols.influx.values import to_number
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s

_MAX_TIME_CHARACTERS = len(str(-grammar.MAX_TIME))

_TIME_OUT_OF_RANGE = Flaw("out_of_range", f"the time lies beyond ±{grammar.MAX_TIME}")


@dataclass(slots=True)
class _Samples:
    """The samples read so far: each list has one entry per sample."""

    keys: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    verdicts: Verdicts = field(default_factory=Verdicts)


def decode_lines(body: bytes, unit_ns: int, now: int) -> Decoded:
    """Read any body; `now`, in units of `unit_ns`, is the time of lines without one.

    A verdict's index is the number, from 1, of the text line on which its line begins. A line that
    is not line protocol is refused as a whole, and reading continues after the next newline; of a
    valid line only the fields that cannot be stored are refused.
    """
    samples = _Samples()
    position, number = 0, 1
    while position < len(body):
        line = grammar.LINE.match(body, position)
        if line is not None:
            _read(line, number, now, samples)
            end = line.end()
        elif (nothing := grammar.NO_LINES.match(body, position)) is not None:
            end = nothing.end()
        else:
            if samples.verdicts.is_full:  # bound the time for a body full of errors
                samples.verdicts.count_only("malformed_line", verdicts=1, samples=1)
            else:
                samples.verdicts.add(Verdict(number, "", *explain(body, position)))
            end = body.find(b"\n", position) + 1 or len(body)
        number += body.count(b"\n", position, end)
        position = end
    columns = np.array(samples.times, np.int64), np.array(samples.values, np.float64)
    return to_decoded(samples.keys, samples.lines, columns, unit_ns, samples.verdicts)


def _read(line: Match[bytes], number: int, now: int, samples: _Samples) -> None:
    head, fields, timestamp = line.groups()
    found = grammar.FIELDS.findall(fields)
    time = now if timestamp is None else to_time(timestamp)
    if time is None:
        samples.verdicts.add(Verdict(number, "time", *_TIME_OUT_OF_RANGE, len(found)))
        return
    for key, text in found:
        value = to_number(text)
        if isinstance(value, float):
            samples.keys.append(b"%b %b" % (head, key))
            samples.times.append(time)
            samples.values.append(value)
            samples.lines.append(number)
        else:
            refuse_field(samples.verdicts, number, key, value)


def refuse_field(verdicts: Verdicts, number: int, key: bytes, flaw: Flaw) -> None:
    """Add a verdict on a field of line `number`."""
    shown = key[:MAX_NAME_CHARACTERS].decode(errors="replace")
    verdicts.add(Verdict(number, f"field {shown}", *flaw))


def to_time(digits: bytes) -> int | None:
    """Read the time of a line; None if it is out of range."""
    if len(digits) > _MAX_TIME_CHARACTERS:
        return None
    time = int(digits)
    return time if abs(time) <= grammar.MAX_TIME else None


def to_decoded(
    keys: Sequence[bytes],
    lines: Sequence[int],
    columns: tuple[Int64s, Float64s],
    unit_ns: int,
    verdicts: Verdicts,
) -> Decoded:
    """Combine samples, one per key and line; `columns` are the times and the values."""
    times, values = columns

    def name_of(number: int) -> SeriesName | list[Verdict]:
        name = grammar.to_name(keys[number])
        if isinstance(name, SeriesName):
            return name
        return [Verdict(lines[number], "name", name.code, name.detail)]

    return Decoded(
        keys=keys,
        name_of=name_of,
        locate=lambda number, _sample: (lines[number], "time"),
        counts=np.ones(len(keys), np.intp),
        times=times,
        values=values,
        unit_ns=unit_ns,
        verdicts=verdicts,
    )
