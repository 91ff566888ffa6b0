"""Lines with several fields, in any order: `cpu,host=web-1 idle=97.4,cores=8i 1790000000000`.

Telegraf writes the fields of a line in a different order every time, so whole lines cannot be
cached. But if no name contains a backslash and every line has a time, all lines are split at their
spaces, commas and equals signs at once, and all numbers are parsed at once. Strings are refused, as
everywhere, and removed first.

Why the result is correct: lines are split here where the grammar splits them. New keys are checked
against the grammar, values and times every time. If any line has another form, the body is read
line by line.
"""

from collections.abc import Sequence
from itertools import chain, repeat
from operator import add
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.decoding.numbers import MAX_WIDTH, read_array, read_digits
from infrawatch.ingest.protocols.influx import grammar
from infrawatch.ingest.protocols.influx.lines import refuse_field, to_decoded, to_time
from infrawatch.ingest.protocols.influx.values import BOOLEANS, STRING
from infrawatch.ingest.scheduling.loop_budget import check_budget, find_known
from infrawatch.ingest.verdicts import Verdicts
from infrawatch.model.samples import Float64s, Int64s

_VISIBLE = bytes(range(ord(" ") + 1, 256))
_GAPS = b"  \n"
"""All whitespace of a line: before its fields, before its time, at its end."""

_MARKS = b"=,"
"""The characters in the middle of a field and after it."""

_UNMARKED = bytes(set(range(256)) - set(_MARKS))
_DIGITS = {word: b"%d" % value for word, value in BOOLEANS.items()}

_IN_FLOATS = np.isin(np.arange(256), list(b".eE"))
"""Characters that JSON allows in numbers, but line protocol not in integers."""

_MINUS_ZEROS = (b"-0,", b"-0 ", b"-0]")
"""JSON reads these as integers, which have no negative zero."""

_MANY_FIELDS, _MANY_QUOTES = 20_000, 4_000
"""Reading this many fields, or refusing half as many strings as quotes, takes seven ms."""

_LARGEST = 2.0**62
"""Limit for integers; closer to the range limits, doubles cannot tell whether they are in range."""


class _Lines(NamedTuple):
    """The parts of all lines that have samples, and their line numbers."""

    heads: Sequence[bytes]
    fields: Sequence[bytes]
    times: Sequence[bytes]
    numbers: Sequence[int]


def decode_fields(
    body: bytes, unit_ns: int, find: Find, *, on_loop: bool = False
) -> Decoded | None:
    """Read a body of such lines; None if a line has another form or is invalid.

    Raises:
        BlocksLoop: on the loop only, if it would take too long.
    """
    is_long = body.count(b"=") > _MANY_FIELDS or body.count(b'"') > _MANY_QUOTES
    check_budget(on_loop=on_loop, is_long=is_long)
    verdicts = Verdicts()
    lines = _split(body, verdicts)
    if lines is None:
        return None
    fields = b",".join(lines.fields)
    counts = [text.count(b"=") for text in lines.fields]
    if fields.translate(None, _UNMARKED) + b"," != _MARKS * sum(counts):
        return None
    words = fields.replace(b"=", b",").split(b",")
    times, values = _read_times(lines.times), _read_values(words[1::2])
    if times is None or values is None:
        return None
    heads = chain.from_iterable(map(repeat, (head + b" " for head in lines.heads), counts))
    keys = list(map(add, heads, words[::2]))
    ids = find_known(find, keys, on_loop=on_loop)
    new = {key for key, series_id in zip(keys, ids, strict=True) if series_id is None}
    if not all(map(grammar.KEY.fullmatch, new)):
        return None
    columns = np.repeat(times, counts), values
    return to_decoded(keys, np.repeat(lines.numbers, counts).tolist(), columns, unit_ns, verdicts)


def _split(body: bytes, verdicts: Verdicts) -> _Lines | None:
    """Split lines in three parts; strings are removed and get verdicts."""
    if b"\\" in body:
        return None
    lines = body.removesuffix(b"\n").split(b"\n")
    numbers: Sequence[int] = range(1, len(lines) + 1)
    if b'"' in body:
        kept = [
            _without_strings(line, number, verdicts) if b'"' in line else line
            for number, line in zip(numbers, lines, strict=True)
        ]
        if None in kept:
            return None
        numbers = [number for number, line in zip(numbers, kept, strict=True) if line != b""]
        lines = [line for line in kept if line]
    text = b"\n".join(lines) + b"\n"
    if text.translate(None, _VISIBLE) != _GAPS * len(numbers):
        return None
    parts = text[:-1].replace(b"\n", b" ").split(b" ")
    return _Lines(parts[::3], parts[1::3], parts[2::3], numbers)


def _without_strings(line: bytes, number: int, verdicts: Verdicts) -> bytes | None:
    """Remove the strings of a line; empty if it has nothing else, None if it is not a full line."""
    found = grammar.LINE.fullmatch(line)  # a string that spans lines does not match
    if found is None or found[3] is None or to_time(found[3]) is None:
        return None
    kept = []
    for key, text in grammar.FIELDS.findall(found[2]):
        if text.startswith(b'"'):
            refuse_field(verdicts, number, key, STRING)
        else:
            kept.append(b"%b=%b" % (key, text))
    return b"%b %b %b" % (found[1], b",".join(kept), found[3]) if kept else b""


def _read_times(texts: Sequence[bytes]) -> Int64s | None:
    """Read times, which must all have the same number of digits."""
    joined, width = b"".join(texts), len(texts[0])
    if not 0 < width <= MAX_WIDTH or set(map(len, texts)) != {width}:
        return None
    times = read_digits(np.frombuffer(joined, np.uint8).reshape(-1, width))
    return None if times is None or times.max() > grammar.MAX_TIME else times.astype(np.int64)


def _read_values(texts: Sequence[bytes]) -> Float64s | None:
    """Read integers, booleans, and floats as written in JSON."""
    text = bytearray(b",".join(texts) + b"]")
    octets = np.frombuffer(text, np.uint8)
    ends = np.append(np.flatnonzero(octets == ord(",")), len(text) - 1)
    lasts = octets[ends - 1]
    is_unsigned = lasts == ord("u")
    is_integer = is_unsigned | (lasts == ord("i"))
    if ((lasts > ord("9")) & ~is_integer).any():
        digits = [_DIGITS.get(word, word) for word in texts]
        return None if digits == texts else _read_values(digits)
    octets[ends[is_integer] - 1] = ord(" ")
    values = read_array(b"[" + text)
    if values is None or len(values) != len(ends):
        return None
    if not values.all() and any(zero in text for zero in _MINUS_ZEROS):
        return None
    of_floats = np.searchsorted(ends, np.flatnonzero(_IN_FLOATS[octets]))
    is_wrong = is_integer & (np.abs(values) > _LARGEST) | is_unsigned & (values < 0)
    return None if is_wrong.any() or is_integer[of_floats].any() else values
