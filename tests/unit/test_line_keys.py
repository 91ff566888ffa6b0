"""Keys found in all lines at once are those found line by line."""

from itertools import groupby

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infrawatch.ingest.protocols.influx.keys import find_ends, read_runs

# Some differ in their length, others in one character: at the beginning, in the middle, at the end.
KEYS = [
    *(b"m v", b"n v", b"m w", b"cpu,host=a idle", b"cpu,host=b idle", b"cpu,host=ab idle"),
    *(b"m," + 40 * b"x" + b"=1 v", b"m," + 20 * b"x" + b"y" + 19 * b"x" + b"=1 v"),
    *(b"m,a=" + 300 * b"x" + b" v", b"m,a=" + 150 * b"x" + b"y" + 149 * b"x" + b" v"),
]
NUMBERS = [b"1", b"-0.5", b"1e5", b"0.30000000000000004", 31 * b"9", 32 * b"9", 33 * b"9"]

line_runs = st.lists(
    st.tuples(st.sampled_from(KEYS), st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4)),
    min_size=1,
    max_size=12,
)


@given(line_runs)
@example([(b"m v", [b"1"]), (b"m,a=" + 300 * b"x" + b" v", [b"1", b"2"])])
@example([(KEYS[6], [b"1", b"1"]), (KEYS[7], [b"1", b"1"])])
@settings(max_examples=500)
def test_keys_and_how_many_lines_have_them(runs: list[tuple[bytes, list[bytes]]]) -> None:
    lines = [b"%b=%b" % (key, number) for key, numbers in runs for number in numbers]
    text = b"".join(b"%b 5\n" % line for line in lines)
    newlines = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    starts, spaces = np.append(0, newlines[:-1] + 1), newlines - len(b" 5")

    ends = find_ends(text, starts, spaces)

    assert ends is not None
    each = [line.rpartition(b"=")[0] for line in lines]
    assert (ends - starts).tolist() == list(map(len, each))
    keys, counts = read_runs(text, starts, ends)
    assert list(zip(keys, counts.tolist(), strict=True)) == [
        (key, len(list(group))) for key, group in groupby(each)
    ]


@given(st.lists(st.sampled_from([b"m v=1", b"m v=" + 40 * b"1"]), max_size=3), st.data())
def test_a_line_without_a_key_has_no_other_lines_key(
    others: list[bytes], data: st.DataObject
) -> None:
    broken = data.draw(st.sampled_from([b"m", b"=1", 40 * b"m", b"=" + 40 * b"1", b""]))
    lines = [*others, broken]
    text = b"".join(b"%b 5\n" % line for line in lines)
    newlines = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))

    assert find_ends(text, np.append(0, newlines[:-1] + 1), newlines - len(b" 5")) is None
