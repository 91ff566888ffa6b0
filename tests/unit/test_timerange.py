"""Times and spans, as people and programs write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrawatch.errors import InvalidTime
from infrawatch.model.timerange import (
    FAR_FUTURE_US,
    US,
    TimeRange,
    from_us,
    parse_range,
    parse_step,
    parse_time,
    to_us,
)

NOW = 1_790_000_000 * US


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        (" now ", NOW),
        ("-15m", NOW - 900 * US),
        ("-1h30m", NOW - 5_400 * US),
        ("-1.5m", None),
        ("0", 0),
        ("-0", 0),
        ("\uff11", None),
        ("1790000000", NOW),
        ("1790000000.25", NOW + 250_000),
        ("1790000000.1234567", NOW + 123_456),
        ("2026-09-21T14:13:20Z", NOW),
        ("2026-09-21t14:13:20z", NOW),
        ("2026-09-21T16:13:20+02:00", NOW),
        ("2026-09-21T14:13:20.000001Z", NOW + 1),
        ("2026-09-21 14:13:20Z", NOW),
    ],
)
def test_a_time_is_read(text: str, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(InvalidTime):
            parse_time(text, now=NOW)
        return
    assert parse_time(text, now=NOW) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1790000000000", "milliseconds"),
        ("9" * 19, "milliseconds"),
        ("9" * 23, "milliseconds"),
        ("-5", "before 1970"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("-100y", "before 1970"),
        ("-999999999999y", "too long"),
        ("2026-09-21T14:13:20", "no zone"),
        ("0001-01-01T00:00:00+23:59", "1970"),
        ("9999-12-31T23:59:59-23:59", "2200"),
        ("yesterday", "RFC 3339"),
        ("", "RFC 3339"),
        ("NaN", "RFC 3339"),
        ("1e9", "RFC 3339"),
    ],
)
def test_an_invalid_time_is_refused_with_a_reason(text: str, hint: str) -> None:
    with pytest.raises(InvalidTime, match=hint):
        parse_time(text, now=NOW)


@given(st.text())
@example("-")
@example("٣")
@example("2026-02-30T00:00:00Z")
@example("9999-12-31T23:59:59.9999999Z")
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_time(text, now=NOW) < FAR_FUTURE_US
    except InvalidTime as error:
        assert len(str(error)) < 500  # noqa: PT017  # both outcomes are right


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2199, 12, 31)))  # noqa: DTZ001
def test_a_time_survives_every_way_of_writing_it(naive: datetime) -> None:
    time = naive.replace(tzinfo=UTC)
    time_us = to_us(time)

    assert from_us(time_us) == time
    assert parse_time(time.isoformat(), now=NOW) == time_us
    elsewhere = time.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert parse_time(elsewhere.isoformat(), now=NOW) == time_us
    assert parse_time(f"{time_us // US}.{time_us % US:06}", now=NOW) == time_us


def test_a_span_contains_its_start_and_may_be_empty() -> None:
    assert parse_range("-1h", "now", now=NOW) == TimeRange(NOW - 3_600 * US, NOW)
    assert parse_range("now", "now", now=NOW) == TimeRange(NOW, NOW)


def test_a_span_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidTime, match="before start"):
        parse_range("now", "-1h", now=NOW)


@pytest.mark.parametrize(("text", "expected"), [("30s", 30 * US), ("5m", 300 * US), ("1ms", 1_000)])
def test_a_step_is_read(text: str, expected: int) -> None:
    assert parse_step(text) == expected


@pytest.mark.parametrize("text", ["0", "0s", "0.0005", "-5m", "now", ""])
def test_a_step_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidTime):
        parse_step(text)
