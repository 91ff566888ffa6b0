"""Lengths of time, as people write them."""

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrawatch.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1ms", timedelta(milliseconds=1)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("15d", timedelta(days=15)),
        ("1w", timedelta(weeks=1)),
        ("1y", timedelta(days=365)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        ("90", timedelta(seconds=90)),
        ("0.5", timedelta(milliseconds=500)),
        ("0", timedelta(0)),
    ],
)
def test_a_duration_is_read(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "-5m", "+5m", "5 m", "5M", "m", "1.5h", "5m ", "5mm", "1e3", "inf", "nan", "٣m", "٣"],
)
def test_an_invalid_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["1ms1s", "30m1h", "1d1w", "1s1s", "1h1m1h"])
def test_units_are_in_descending_order_as_in_prometheus(text: str) -> None:
    with pytest.raises(ValueError, match="larger units first, and each once: 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["999999999999y", "99999999999d", "999999999999y9999999999w"])
def test_more_than_can_be_counted_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration(text)


@given(st.text())
@example("٣m")
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta(0)
    except ValueError as error:
        assert len(str(error)) < 500  # noqa: PT017  # both outcomes are right


UNITS = ["y", "w", "d", "h", "m", "s", "ms"]


@given(st.dictionaries(st.sampled_from(UNITS), st.integers(0, 10**4), min_size=1))
def test_parts_add_up(counts: dict[str, int]) -> None:
    parts = [f"{counts[unit]}{unit}" for unit in UNITS if unit in counts]
    assert parse_duration("".join(parts)) == sum(map(parse_duration, parts), timedelta())
