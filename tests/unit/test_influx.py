"""Line protocol, read: vectors made by hand from its grammar and its reference."""

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.protocols.influx import grammar
from infrawatch.ingest.protocols.influx.decode import decode
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName

NOW_NS = 1_790_000_000_123_456_789
S = 10**9
MS = 10**6


def read(body: bytes | str, unit_ns: int | None = 1) -> Decoded:
    encoded = body if isinstance(body, bytes) else body.encode()
    return decode(encoded, unit_ns, NOW_NS, lambda keys: [None] * len(keys))


def rows(decoded: Decoded) -> list[tuple[str, dict[str, str], int, float]]:
    """(metric, labels, time in ns, value) of each sample whose series has a name."""
    names = [decoded.name_of(n) for n in range(len(decoded.keys))]
    found = np.repeat(np.arange(len(names)), decoded.counts).tolist()
    times = (decoded.times * decoded.unit_ns).tolist()
    return [
        (name.metric, dict(name.labels), time, value)
        for name, time, value in zip(
            map(names.__getitem__, found), times, decoded.values.tolist(), strict=True
        )
        if isinstance(name, SeriesName)
    ]


def verdicts(decoded: Decoded) -> list[Verdict]:
    """What was refused while reading, then what the names of series were refused for."""
    names = (decoded.name_of(n) for n in range(len(decoded.keys)))
    return [
        *decoded.verdicts,
        *(v for one in names if not isinstance(one, SeriesName) for v in one),
    ]


def codes(body: bytes | str, unit_ns: int | None = 1) -> list[tuple[int, str]]:
    return [(one.index, one.code) for one in verdicts(read(body, unit_ns))]


def test_a_line_is_one_sample_a_field_under_measurement_and_field() -> None:
    line = "cpu,host=a,cpu=0 usage_user=1.5,usage_idle=97 1790000000000000000\n"

    assert rows(read(line)) == [
        ("cpu_usage_user", {"host": "a", "cpu": "0"}, 1790 * 10**15, 1.5),
        ("cpu_usage_idle", {"host": "a", "cpu": "0"}, 1790 * 10**15, 97.0),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0", -0.0),
        ("-1.234456e+78", -1.234456e78),
        ("1E-3", 0.001),
        ("007", 7.0),
        ("0.1", 0.1),
        ("9007199254740993", 9007199254740992.0),
        ("2.2250738585072011e-308", 2.225073858507201e-308),
        ("42i", 42.0),
        ("-9223372036854775808i", -(2.0**63)),
        ("18446744073709551615u", 2.0**64),
        *((text, 1.0) for text in ("t", "T", "true", "True", "TRUE")),
        *((text, 0.0) for text in ("f", "F", "false", "False", "FALSE")),
    ],
)
def test_a_value_is_the_nearest_float(text: str, value: float) -> None:
    for line in (f"m v={text} 1", f"m v={text}", f"m a=1,v={text} 1"):
        found = rows(read(line))[-1][3]

        assert struct.pack("<d", found) == struct.pack("<d", value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('"text"', "string_field"),
        ('""', "string_field"),
        (r'"with \" quote, comma=1 and \\"', "string_field"),
        ("NaN", "not_finite"),
        ("nan", "not_finite"),
        ("-Inf", "not_finite"),
        ("+Infinity", "not_finite"),
        ("1e999", "not_finite"),
        ("9223372036854775808i", "out_of_range"),
        ("-9223372036854775809i", "out_of_range"),
        ("18446744073709551616u", "out_of_range"),
        ("-1u", "out_of_range"),
        ("9" * 5000 + "i", "out_of_range"),
    ],
)
def test_a_field_that_cannot_be_stored_is_refused_alone_and_by_name(text: str, code: str) -> None:
    decoded = read(f"m,host=a before=1,wrong={text},after=2 5\nm v=3 6")

    assert [(metric, value) for metric, _, _, value in rows(decoded)] == [
        ("m_before", 1.0),
        ("m_after", 2.0),
        ("m_v", 3.0),
    ]
    assert [(one.index, one.locator, one.code) for one in verdicts(decoded)] == [
        (1, "field wrong", code)
    ]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("m", "column 2: expected a comma and a tag or a space and the fields, found the end"),
        ("m ", "column 3: expected the key of a field, found the end of the line"),
        (",host=a v=1", "column 1: expected a measurement, found ',host=a v=1'"),
        ("m,host v=1", "column 7: expected = and the value of the tag, found ' v=1'"),
        ("m,host= v=1", "column 8: expected the value of a tag, which cannot be empty"),
        ("m,=a v=1", "column 3: expected the key of a tag, found '=a v=1'"),
        ("m,a=b=c v=1", "column 6: expected a comma and a tag or a space and the fields"),
        ("m, v=1", "column 3: expected the key of a tag"),
        ("m =1", "column 3: expected the key of a field"),
        ("m v", "column 4: expected = and the value of the field, found the end of the line"),
        ("m v=", "column 5: expected a number (1, -1.5e3, 42i, 42u), a boolean or a string"),
        ("m v=abc", "column 5: expected a number"),
        ("m v=tRUE", "column 5: expected a number"),
        ("m v=+5", "column 5: expected a number"),
        ("m v=1ii", "column 5: expected a number"),
        ("m v=1.5i", "column 5: expected a number"),
        ("m v=1_000", "column 5: expected a number"),
        ("m v=0x10", "column 5: expected a number"),
        ("m v=1e", "column 5: expected a number"),
        ("m v= 1 5", "column 5: expected a number"),
        ('m v="open', "column 5: expected a number"),
        ('m v="a"b', "column 5: expected a number"),
        ("m v=1,", "column 7: expected the key of a field"),
        ("m v=1,,w=2", "column 7: expected the key of a field"),
        ("m v=1 abc", "column 7: expected the time as an integer, found 'abc'"),
        ("m v=1 1.5", "column 8: expected the end of the line, found '.5'"),
        ("m v=1 5 6", "column 8: expected the end of the line, found ' 6'"),
        ("m v=1\t5", "column 5: expected a number"),
        ("m v=1 +5", "column 7: expected the time as an integer"),
        ("m v=1 5\r6", "column 8: expected the end of the line"),
        ("m\\", "column 2: expected a comma and a tag or a space and the fields, found '\\\\'"),
        ("x" * 30, "column 31: expected a comma and a tag"),
        ("m v=" + "x" * 30, "found 'xxxxxxxxxxxxxxxxxxxx…'"),
    ],
)
def test_an_invalid_line_is_refused_with_its_column(line: str, detail: str) -> None:
    decoded = read(f"good v=1 5\n{line}\ngood v=2 6\n")

    [verdict] = verdicts(decoded)
    assert (verdict.index, verdict.code) == (2, "malformed_line")
    assert detail in verdict.detail
    assert [value for *_, value in rows(decoded)] == [1.0, 2.0]
    assert codes(f"good v=1 5\n{line}") == [(2, "malformed_line")]


@pytest.mark.parametrize(
    ("line", "metric", "labels"),
    [
        (r"my\ disk v=1", "my disk_v", {}),
        (r"a\,b v=1", "a,b_v", {}),
        (r"a\=b v=1", r"a\=b_v", {}),
        (r"a=b v=1", "a=b_v", {}),
        (r"m,a\ b=c\ d v=1", "m_v", {"a b": "c d"}),
        (r"m,a\=b=c\=d v=1", "m_v", {"a=b": "c=d"}),
        (r"m,a=b\,c v=1", "m_v", {"a": "b,c"}),
        (r"m v\ w\,x\=y=1", "m_v w,x=y", {}),
        (r"m,path=C:\Windows v=1", "m_v", {"path": r"C:\Windows"}),
        (r"m,path=\\server\share v=1", "m_v", {"path": r"\\server\share"}),
        (r"m,path=C:\\,b\=c v=1", "m_v", {"path": r"C:\,b=c"}),
        ('m,quoted="a" v=1', "m_v", {"quoted": '"a"'}),
        ('m "v"=1', 'm_"v"', {}),
        ("m,host=ü v=1", "m_v", {"host": "ü"}),
        ("m#1,host=#2 v=1", "m#1_v", {"host": "#2"}),
    ],
)
def test_names_are_unescaped(line: str, metric: str, labels: dict[str, str]) -> None:
    for text in (line + " 5", line, f"other v=1\n{line}"):
        assert rows(read(text))[-1][:2] == (metric, labels)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("m,a=1,a=2 v=1", "duplicate_label"),
        ("m,a=b\x00c v=1", "invalid_label_value"),
        ("m,a\x01=b v=1", "invalid_label_name"),
        ("m\x00 v=1", "invalid_metric"),
        ("m" * 200 + " v=1", "too_long"),
        ("m,a=" + "b" * 4097 + " v=1", "too_long"),
        ("m" + "".join(f",l{n}=x" for n in range(65)) + " v=1", "too_many_labels"),
        (b"m,a=\xff v=1", "malformed_line"),
        (b"m\xc3 v=1", "malformed_line"),
    ],
)
def test_a_name_that_cannot_be_stored_has_the_code_it_has_everywhere(
    line: bytes | str, code: str
) -> None:
    encoded = line if isinstance(line, bytes) else line.encode()
    for time in (b"", b" 5"):  # read line by line, and all at once
        assert codes(b"good v=1" + time + b"\n" + encoded + time) == [(2, code)]


def test_comments_and_empty_lines_are_skipped_but_counted() -> None:
    body = "# a comment\n\n  \t\n  # another v=1 5\n  m v=1 5\nbad\n\r\n#"

    assert rows(read(body)) == [("m_v", {}, 5, 1.0)]
    assert codes(body) == [(6, "malformed_line")]


@pytest.mark.parametrize("body", ["", "\n", "# nothing", "\r\n\r\n"])
def test_a_body_without_lines_holds_nothing_and_no_error(body: str) -> None:
    decoded = read(body)

    assert (rows(decoded), verdicts(decoded)) == ([], [])


@pytest.mark.parametrize("nothing", ["\n", "\r\n", " \t\n", "#\n", '\n# =, " \\ \n'])
def test_any_number_of_empty_lines_is_skipped_together(
    monkeypatch: pytest.MonkeyPatch, nothing: str
) -> None:
    looked_at: list[int] = []

    class Noting(NamedTuple):
        pattern: re.Pattern[bytes]

        def match(self, body: bytes, position: int) -> re.Match[bytes] | None:
            looked_at.append(position)
            return self.pattern.match(body, position)

    monkeypatch.setattr(grammar, "LINE", Noting(grammar.LINE))
    lines = nothing.count("\n") * 2_000

    decoded = read(f"{nothing * 2_000}  a b=1 1\n{nothing * 2_000} wrong\n#")

    assert [metric for metric, *_ in rows(decoded)] == ["a_b"]
    [refused] = decoded.verdicts
    assert (refused.index, refused.detail[:9]) == (2 * lines + 2, "column 7:")
    assert len(looked_at) < 20


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "  \r\n"])
def test_lines_may_end_in_several_ways(end: str) -> None:
    body = end.join(("m v=1 5", "m v=2 6", 'm v=3,w=t,s="x" 7', "m v=4", ""))

    assert [value for *_, value in rows(read(body))] == [1.0, 2.0, 3.0, 1.0, 4.0]
    assert codes(body) == [(3, "string_field")]


def test_a_string_may_contain_line_and_field_separators() -> None:
    body = 'm s="a\nb v=1 5\n, c=\\"x\\"",v=1 7\nbad\nm v=2 8'

    assert [(time, value) for _, _, time, value in rows(read(body))] == [(7, 1.0), (8, 2.0)]
    assert codes(body) == [(1, "string_field"), (4, "malformed_line")]


def test_a_string_without_an_end_costs_only_its_own_line() -> None:
    assert codes('m s="a\nm v=1 5\n') == [(1, "malformed_line")]


def test_lines_without_a_time_get_the_servers_floored_to_the_unit() -> None:
    for unit_ns in (1, 1000, MS, S, 3600 * S):
        [row] = rows(read("m v=1", unit_ns))
        assert row[2] == NOW_NS // unit_ns * unit_ns
    assert rows(read("m v=1", None))[0][2] == NOW_NS


@pytest.mark.parametrize(
    ("time", "expected_ns"),
    [
        (1_790_000_000, 1_790_000_000 * S),
        (4_999_999_999, 4_999_999_999 * S),
        (5_000_000_000, 5_000_000_000 * MS),
        (1_790_000_000_123, 1_790_000_000_123 * MS),
        (5_000_000_000_000, 5_000_000_000_000 * 1000),
        (1_790_000_000_123_456, 1_790_000_000_123_456 * 1000),
        (5_000_000_000_000_000, 5_000_000_000_000_000),
        (1_790_000_000_123_456_789, 1_790_000_000_123_456_789),
        (-1_790_000_000, -1_790_000_000 * S),
        (0, 0),
    ],
)
def test_without_a_unit_each_time_is_read_by_its_magnitude(time: int, expected_ns: int) -> None:
    both = rows(read(f"m v=1 {time}\nm v=2 7", None))

    assert [row[2] for row in both] == [expected_ns, 7 * S]


@pytest.mark.parametrize(
    "time", ["9223372036854775807", "-9223372036854775807", "9" * 19, "9" * 5000]
)
def test_a_time_beyond_64_bits_refuses_its_line(time: str) -> None:
    decoded = read(f"m v=1,w=2 {time}\nm v=3 5")

    assert [(one.index, one.code, one.samples) for one in verdicts(decoded)] == [
        (1, "out_of_range", 2)
    ]
    assert codes(f"m v=1 {time}") == [(1, "out_of_range")]
    assert len(rows(decoded)) == 1


def test_the_largest_times_are_read() -> None:
    for time in (9223372036854775806, -9223372036854775806):
        assert [row[2] for row in rows(read(f"m v=1 {time}"))] == [time]


def test_equal_neighbours_become_one_series_and_keep_their_lines() -> None:
    decoded = read(b"a v=1 1\na v=2 2\nb v=3 3\na v=4 4\n")

    assert decoded.counts.tolist() == [2, 1, 1]
    assert [decoded.locate(n, s)[0] for n, s in ((0, 0), (0, 1), (1, 0), (2, 0))] == [1, 2, 3, 4]


def test_times_of_whole_microseconds_are_passed_as_microseconds() -> None:
    assert read("m v=1 1790000000000001000").unit_ns == 1000
    assert read("m v=1 1790000000000001001").unit_ns == 1


def test_all_of_many_errors_are_counted() -> None:
    decoded = read("bad\n" * 1000 + "m v=1 5\n")

    assert decoded.verdicts.total == decoded.verdicts.rejected_samples == 1000
    assert len(decoded.verdicts.shown) == 100
    assert len(rows(decoded)) == 1


def test_known_keys_are_not_read_again() -> None:
    asked: list[Sequence[object]] = []

    def find(keys: Sequence[object]) -> list[int | None]:
        asked.append(keys)
        return [7] * len(keys)

    decoded = decode(b"m,host=a v=1 5\nm,host=b v=2 6\n", 1, NOW_NS, find)

    assert asked == [[b"m,host=a v", b"m,host=b v"]]
    assert decoded.keys == [b"m,host=a v", b"m,host=b v"]
