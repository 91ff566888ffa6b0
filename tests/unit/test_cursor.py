"""Cursors: opaque, URL-safe, and nothing else is taken for one."""

import base64
import json
import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.errors import InvalidCursor
from infrawatch.model.cursor import MAX_CURSOR_CHARACTERS, Cursor
from infrawatch.model.timerange import FAR_FUTURE_US

EPOCH = UUID("12345678-1234-5678-1234-567812345678")
COUNTS = st.integers(0, 2**63 - 1)


@given(st.uuids(), st.integers(0, FAR_FUTURE_US - 1), st.dictionaries(COUNTS, COUNTS, max_size=20))
def test_a_cursor_comes_back_as_it_was(epoch: UUID, at_us: int, seqs: dict[int, int]) -> None:
    cursor = Cursor(epoch, at_us, seqs)

    text = cursor.to_text()

    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert Cursor.from_text(text) == cursor


def test_a_thousand_writers_have_room() -> None:
    cursor = Cursor(EPOCH, 1_790_000_000_000_000, dict.fromkeys(range(1_000), 1_000))

    assert len(cursor.to_text()) <= MAX_CURSOR_CHARACTERS
    assert Cursor.from_text(cursor.to_text()) == cursor


def encoded(wire: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(wire).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "not a cursor",
        "====",
        "é",
        encoded(None),
        encoded([]),
        encoded([str(EPOCH), 1]),
        encoded([str(EPOCH), -1, {}]),
        encoded([str(EPOCH), 2**63, {}]),
        encoded([str(EPOCH), FAR_FUTURE_US, {}]),
        encoded([str(EPOCH), 1, {"1": -1}]),
        encoded([str(EPOCH), 1, {"1": 2**63}]),
        encoded([str(EPOCH), 1, {"-1": 1}]),
        encoded([str(EPOCH), 1, {"a": 1}]),
        encoded([str(EPOCH), 1, [], 4]),
        encoded(["epoch", 1, {}]),
        encoded([str(EPOCH), 1, {}]) + "!",
        "A" * 100_000,
    ],
)
def test_a_cursor_of_other_origin_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor, match="pass on what an answer gave you"):
        Cursor.from_text(text)


@given(st.text(max_size=100))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.from_text(text)
