"""Line protocol, read: what holds for any body."""

import math
import struct
from collections.abc import Sequence

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.ingest.protocols.influx import grammar
from infrawatch.ingest.protocols.influx.decode import decode
from infrawatch.ingest.protocols.influx.fields import decode_fields
from infrawatch.ingest.protocols.influx.lines import decode_lines
from infrawatch.ingest.protocols.influx.regular import decode_regular
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName

Row = tuple[SeriesName | None, int, int, bytes]
"""(series, line, time, value bit for bit)."""

PIECES = [
    *("m", "cpu,host=a", "cpu,host=b,x=1", r"a\ b,c\,d=e\=f", "#", "\\", "ü", "\x00", "m,a=1,a=2"),
    *(" ", "  ", "\t", "\n", "\n", "\r\n", ",", "=", '"', "'"),
    *("v=1", "v=1.5", "w=-0", "v=-0.0", "s=true", "n=42i", 's="x y"', 's="a\nb=1 5"', "v=1e999"),
    *("v=NaN", "v=1_0", "v=.5", "v=null", "v=[1]", "v=1,w=2", "v= 1", "v=", "=1", "v=00", "v=1e5"),
    *("5", "12", "-5", "1790000000000", "9223372036854775807", "9" * 19, "9" * 25, "1.5"),
]
LINES = [
    *("m v=1 5", "m v=2 6", "m v=3 5", "m,host=a v=1.5 7", "m,host=b w=-0 7", r"m\ n v=1e3 9"),
    *(
        "m v=0.1 10",
        "m v=5",
        "m v=1  5",
        "m v= 1 5",
        "m v=1\t 5",
        "m  v=1 5",
        " m v=1 5",
        "\tm v=1 5",
        "m v=1 5 ",
    ),
    *(
        "m a=1,b=2 5",
        "m,host=a i=42i,u=42u,f=1.5,t=true,e=-1e-3,k=f 5",
        "m,host=a b=2,a=1 6",
        "m i=1.5i,v=1 5",
        "m i=1e3i,v=1 5",
        "m v=1,i=-0i,w=-0 5",
        "m i=9223372036854775807i,v=1 5",
        "m i=9223372036854775808i,v=1 5",
        "m u=-1u,v=1 5",
        "m t=truei,v=1 5",
        "m i=i,v=1 5",
        "m a=1,,b=2 5",
        "m a=1,b 5",
        "m a=b=1,c=2 5",
        "m v=1,w=2 -5",
        "m v=1,w=2 9999999999999999999",
        "m,a=1,a=2 v=1 5",
        "#m v=1 5",
        "m v=1 5\r",
        'm s="a",v=1 5',
        'm s="a b",v=1,n=3i,q="a=b,c=d" 5',
        'm,q="x" v=1 5',
        'm s="x" 5',
        'm s="x" 99999999999999999999',
        'm s="x"',
        'm s="',
        "m,\x00 v=1 5",
    ),
    *(
        "m v=null 5",
        "m v=true 5",
        "m v=[] 5",
        'm v="1" 5',
        "m v=1e999 5",
        "m v=007 5",
        "",
        "m=1 5",
        "=1 5",
    ),
]

texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(r" ,=\"#"),
    min_size=1,
    max_size=8,
)
# A backslash at the end would hide what follows a name: the grammar has no way to write it.
names = texts.filter(lambda text: not text.endswith("\\"))

digits = st.integers(0, 10**40).map(str)
numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    digits,
    st.just("") | digits.map(".{}".format),
    st.just("") | st.integers(-400, 400).map("e{}".format),
) | st.floats(allow_nan=False, allow_infinity=False).map(repr)


def unknown(keys: Sequence[object]) -> list[int | None]:
    return [None] * len(keys)


def decode_at_once(body: bytes) -> Decoded | None:
    newlines = np.flatnonzero(np.frombuffer(body, np.uint8) == ord("\n"))
    return decode_regular(body, newlines, 1, unknown)


def rows(decoded: Decoded) -> list[Row]:
    starts = np.cumsum(decoded.counts) - decoded.counts
    found = []
    for number, (start, count) in enumerate(
        zip(starts.tolist(), decoded.counts.tolist(), strict=True)
    ):
        name = decoded.name_of(number)
        for sample in range(count):
            value = struct.pack("<d", decoded.values[start + sample])
            line = decoded.locate(number, sample)[0]
            time = int(decoded.times[start + sample])
            found.append((name if isinstance(name, SeriesName) else None, line, time, value))
    return found


def refusals(decoded: Decoded) -> list[Verdict]:
    refused = (decoded.name_of(number) for number in range(len(decoded.keys)))
    named = [one for each in refused if not isinstance(each, SeriesName) for one in each]
    return sorted([*decoded.verdicts, *named], key=lambda one: (one.index, one.locator))


@given(
    st.lists(st.sampled_from(LINES) | st.lists(st.sampled_from(PIECES)).map("".join), max_size=6)
)
@example(["m v=1 5", "m v=2 6"])
@example(["m v=1 5", "m v="])
@example(['m s="a b",v=1,n=3i,q="a=b,c=d" 5', 'm s="x" 5', "m a=1,b=2 5"])
@example(["m i=1.5i,v=1 5"])
@example(["m v=1,i=-0i,w=-0 5"])
@settings(max_examples=1000)
def test_reading_all_at_once_finds_what_reading_line_by_line_finds(lines: list[str]) -> None:
    for end in ("", "\n"):
        body = ("\n".join(lines) + end).encode()
        careful = decode_lines(body, 1, 0)
        for quick in (decode_at_once(body), decode_fields(body, 1, unknown)):
            if quick is not None:
                assert rows(quick) == rows(careful)
                assert refusals(quick) == refusals(careful)


FIELD_VALUES = [
    *("1", "0", "-7.25", "1e5", "1E-5", "1.", ".5", "007", "-0", "-0.0", "+1", "1e999", "nan"),
    *("42i", "-42i", "0i", "-0i", "007i", "1.5i", "1e3i", "9223372036854775807i", "1ii", "i"),
    *("9223372036854775808i", "42u", "-1u", "-0u", "18446744073709551615u", "u", "1iu"),
    *("t", "F", "true", "FALSE", "tRUE", "truei", "null", "[1]", "", " 1", "1 ", "\t1", "1_0"),
    *('""', '"a b"', '"a,b=c"', '"a\nb=1 5"', '"\\""', '"', "'a'"),
]
# Nearly all right, so that most bodies are.
FIELDS = st.sampled_from([f"k{n}={v}" for n, v in enumerate(("1", "-2.5", "42i", "7u", "true"))])
FIELD = FIELDS | FIELDS | FIELDS | st.sampled_from(FIELD_VALUES).map("v={}".format)
HEADS = ["cpu,host=a", "cpu,host=b", "m", 'm,q="x"', "m,a", "#m", "a\\ b", "ü", "\x01", ""]
FIELD_LINES = st.builds(
    "{} {} {}".format,
    st.sampled_from(HEADS[:3] * 5 + HEADS),
    st.lists(FIELD, min_size=1, max_size=4).map(",".join),
    st.sampled_from(["1790000000000"] * 9 + ["1790000000", "", "-5", "9" * 19, "1.5"]),
)


@given(st.lists(FIELD_LINES, min_size=1, max_size=4))
@settings(max_examples=600)
def test_fields_read_together_equal_fields_read_one_by_one(lines: list[str]) -> None:
    body = "\n".join(lines).encode()
    together = decode_fields(body, 1, unknown)

    if together is not None:
        one_by_one = decode_lines(body, 1, 0)
        assert rows(together) == rows(one_by_one)
        assert list(together.verdicts) == list(one_by_one.verdicts)


def test_bodies_of_telegraf_are_read_together_in_any_order_with_or_without_strings() -> None:
    lines = [
        "cpu,cpu=cpu0,host=a usage_user=1.25,usage_idle=98.5,n=8i 1790000000000000000",
        'system,host=a uptime_format="10 days, 3:04" 1790000000000000000',
        "cpu,cpu=cpu0,host=a usage_idle=98.5,n=9i,usage_user=0 1790000010000000000",
        'disk,host=a free=12345678901i,label="x",is_ro=false,used_percent=71.3 1790000010000000000',
    ]
    body = "\n".join(lines).encode()

    together = decode_fields(body, 1, unknown)

    assert together is not None
    assert rows(together) == rows(decode_lines(body, 1, 0))
    assert [(one.index, one.locator) for one in together.verdicts] == [
        (2, "field uptime_format"),
        (4, "field label"),
    ]


@given(
    st.lists(
        st.tuples(
            names.filter(lambda text: not text.startswith("#")),
            st.dictionaries(names, names, max_size=3),
            st.dictionaries(
                names, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3
            ),
            st.integers(-(2**63) + 2, 2**63 - 2),
        ),
        max_size=5,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_valid_names_are_read_back(
    points: list[tuple[str, dict[str, str], dict[str, float], int]], end: str
) -> None:
    body = end.join(_to_line(*point) for point in points)

    assert [
        (name, time, value) for name, _, time, value in rows(decode_lines(body.encode(), 1, 0))
    ] == [
        (SeriesName.of(f"{measurement}_{field}", tags), time, struct.pack("<d", value))
        for measurement, tags, fields, time in points
        for field, value in fields.items()
    ]


TAGS = [
    *("a=1", "a=2", "b=1", "\u00fc=\u00e9", "__name__=x", "a=\x00", "a=\x85", "\x01=1", "a= "),
    *("c=" + 100 * "c", "d=" + 300 * "d", "e=" + 5000 * "e", 201 * "f" + "=1", "g=g=g", "h="),
]
PLAIN_KEYS = st.builds(
    "{}{} {}".format,
    st.sampled_from(["m", "cpu", "\u00fc", "\x01", 190 * "m"]),
    st.lists(st.sampled_from(TAGS), max_size=4).map(lambda tags: "".join(f",{t}" for t in tags)),
    st.sampled_from(["v", "value", "\x7f"]),
).map(str.encode)
BROKEN_KEYS = [b"m,a=\xff v", b"\xff,a=1 v", b"m,a=1 \xff"]


@given(PLAIN_KEYS | st.sampled_from(BROKEN_KEYS) | st.text("ab=, #").map(str.encode) | st.binary())
@example(b"m=1,a=1,b=2 v")
@example(b"m," + b",".join(b"%d=1" % n for n in range(70)) + b" v")
@settings(max_examples=500)
def test_keys_without_backslashes_are_read_as_others_again_and_again(key: bytes) -> None:
    if b"\\" not in key and grammar.KEY.fullmatch(key):
        assert [grammar.to_name(key) for _ in range(2)] == 2 * [read_carefully(key)]


def read_carefully(key: bytes) -> SeriesName | Flaw:
    try:
        measurement, tags, field = grammar.split_escaped(key)
    except UnicodeDecodeError:
        return Flaw("malformed_line", "names and tags must be UTF-8")
    return to_series_name(f"{measurement}_{field}", tags)


def _to_line(measurement: str, tags: dict[str, str], fields: dict[str, float], time: int) -> str:
    parts = [_escaped(measurement, ", "), *(f"{_word(k)}={_word(v)}" for k, v in tags.items())]
    values = [f"{_word(key)}={value!r}" for key, value in fields.items()]
    return f"{','.join(parts)} {','.join(values)} {time}"


def _word(text: str) -> str:
    return _escaped(text, ",= ")


def _escaped(text: str, special: str) -> str:
    for character in special:
        text = text.replace(character, f"\\{character}")
    return text


@given(st.lists(numbers, min_size=1, max_size=20))
@example(["0.500000000000000166533453693773481063544750213623046875", "1e23", "8.5e22"])
@example(["2.2250738585072011e-308", "4.9e-324", "2.4703282292062327e-324", "-0", "-0e5"])
@settings(max_examples=300)
def test_numbers_are_rounded_as_python_rounds_them(texts: list[str]) -> None:
    body = "\n".join(f"m v={number} 5" for number in texts).encode()
    finite = [float(number) for number in texts if math.isfinite(float(number))]

    decoded = decode(body, 1, 0, unknown)

    assert decoded.values.tobytes() == struct.pack(f"<{len(finite)}d", *finite)
    assert decoded.verdicts.samples_by_code["not_finite"] == len(texts) - len(finite)


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()))
@settings(max_examples=1000)
def test_no_line_is_lost_and_nothing_breaks(body: bytes) -> None:
    decoded = decode(body, None, 10**18, unknown)

    told = {line for _, line, _, _ in rows(decoded)} | {one.index for one in refusals(decoded)}
    if b'"' not in body:  # in a string, an end of line is none
        lines = enumerate(body.split(b"\n"), start=1)
        assert told == {n for n, line in lines if line.strip(b" \t\r") and not _is_comment(line)}
    assert all(
        one.samples == 1 and one.detail for one in refusals(decoded) if one.code == "malformed_line"
    )


def _is_comment(line: bytes) -> bool:
    return line.lstrip(b" \t").startswith(b"#")
