"""Decimal numbers parsed together are what Python reads one by one."""

import re
import struct
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infrawatch.ingest.protocols.influx.decimals import read_decimals, read_integers
from infrawatch.model.samples import Positions

DECIMAL = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")
JSON = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

digits = st.text("0123456789", max_size=20)
decimals = st.builds("{}{}{}{}".format, st.sampled_from(["", "-"]), digits, st.just("."), digits)
integers = st.integers(-(10**20), 10**20).map(str)
floats = st.floats(allow_nan=False, allow_infinity=False).map(repr)
numbers = st.one_of(decimals, integers, floats, st.sampled_from(["-0", "0.0", "-0.0", "007"]))
soup = st.text("0123456789.-+eE ,_:/x", min_size=1, max_size=20)


def joined(texts: list[str], gap: str) -> tuple[bytes, Positions, Positions]:
    """All texts, each with a gap before it, and where they start and end."""
    ends = np.cumsum([len(gap) + len(text) for text in texts])
    starts = ends - [len(text) for text in texts]
    return "".join(gap + text for text in texts).encode(), starts, ends


def is_finite_json(text: str) -> bool:
    return bool(JSON.fullmatch(text)) and abs(float(text)) < np.inf


def is_read(text: str) -> bool:
    return is_finite_json(text) or bool(DECIMAL.fullmatch(text) and len(text) <= 15)


def may_be_read(text: str) -> bool:
    return is_finite_json(text) or bool(DECIMAL.fullmatch(text))


@given(st.lists(numbers.filter(is_read), min_size=1, max_size=30), st.text("19.-=", max_size=3))
@example(["9007199254740991", "9007199254740992", "9007199254740993", "0.9007199254740993"], "")
@example(["999999999999.999", "9999999999999.99", "99999999999999.9", "99999999999999."], "9")
@example([".123456789012345", ".1", "1.", "-.5", "-0", "-0.0", "0", "4e-324", "-1e-7"], ".")
@settings(max_examples=500)
def test_numbers_are_rounded_as_python_rounds_them(texts: list[str], gap: str) -> None:
    values = read_decimals(*joined(texts, gap))

    assert values is not None
    assert values.tobytes() == struct.pack(f"<{len(texts)}d", *map(float, texts))


@given(st.lists(numbers | soup, min_size=1, max_size=5).filter(all))
@example(["1.2.3"])
@example(["1", "1.2", "."])
@example(["-"])
@example(["-."])
@example(["1,2"])
@example([" 1"])
@example(["1e5 "])
@settings(max_examples=1000)
def test_anything_else_is_not_read(texts: list[str]) -> None:
    values = read_decimals(*joined(texts, "="))

    assert values is None or all(map(may_be_read, texts))
    assert values is not None or not all(map(is_read, texts))


@pytest.mark.parametrize("width", range(1, 20))
@given(data=st.data())
@settings(max_examples=50)
def test_integers_are_read_together(width: int, data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text("0123456789", min_size=width, max_size=width), min_size=1))
    text, _, ends = joined(texts, "x")

    read = read_integers(text, ends, width)

    assert read is not None
    assert read.tolist() == list(map(int, texts))


@pytest.mark.parametrize("width", [1, 8, 13, 16, 19])
def test_what_is_not_all_digits_is_no_integer(width: int) -> None:
    others = set(range(256)) - set(b"0123456789")
    for place, wrong in product(range(width), others):
        digits = bytearray(b"7" * width)
        digits[place] = wrong
        assert read_integers(b"1" * width + digits, np.array([width, 2 * width]), width) is None
