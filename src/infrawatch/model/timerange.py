"""Times as users write them, and half-open spans of time."""

import math
import re
from datetime import UTC, datetime, timedelta
from time import time_ns
from typing import Literal, NamedTuple

from infrawatch.durations import parse_duration
from infrawatch.errors import InvalidTime

US = 1_000_000
"""Microseconds in a second; internally every time is in microseconds since 1970, UTC."""

FAR_FUTURE_US = 7_258_118_400 * US
"""2200-01-01. A number of seconds beyond it is assumed to be milliseconds by mistake."""

Precision = Literal["s", "ms", "us", "ns"]
"""The unit of times in a request or response body."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,12})?")


class TimeRange(NamedTuple):
    """A half-open span of time: includes `start_us`, excludes `end_us`."""

    start_us: int
    end_us: int


def now_us() -> int:
    """Return the current time by this machine's clock."""
    return time_ns() // 1000


def to_us(time: datetime) -> int:
    """Convert an aware time to microseconds since the epoch, exactly."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)


def duration_us(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def parse_time(text: str, *, now: int) -> int:
    """Parse RFC 3339, Unix seconds, `now`, or an offset back from now such as `-15m`.

    `now` and the result are microseconds since the epoch.

    Raises:
        InvalidTime: the text is none of these, or lies before 1970 or beyond the year 2200.
    """
    text = text.strip()
    if text == "now":
        return now
    if _NUMBER.fullmatch(text):
        seconds, _, fraction = text.partition(".")
        time_us = abs(int(seconds)) * US + int(fraction[:6].ljust(6, "0") or 0)
        return _checked(-time_us if seconds.startswith("-") else time_us, text)
    if text.startswith("-"):
        try:
            return _checked(now - duration_us(parse_duration(text[1:])), text)
        except ValueError as error:
            raise InvalidTime(str(error)) from None
    return _checked(_parse_rfc3339(text), text)


def is_back_from_now(text: str) -> bool:
    """Whether the text is an offset back from now (see `parse_time`)."""
    return text.strip().startswith("-")


def parse_step(text: str, name: str = "step") -> int:
    """Parse a step (`30s`, `5m`, or seconds) to microseconds; `name` is its name in errors.

    Raises:
        InvalidTime: the text is not a duration, or is shorter than a millisecond.
    """
    try:
        step_us = duration_us(parse_duration(text))
    except ValueError as error:
        raise InvalidTime(f"{name}: {error}") from None
    if step_us < US // 1000:
        raise InvalidTime(f"{name}: at least 1ms")
    return step_us


def parse_range(start: str, end: str, *, now: int) -> TimeRange:
    """Parse both ends of a span.

    Raises:
        InvalidTime: an end is not a time, or the span ends before it starts.
    """
    span = TimeRange(parse_time(start, now=now), parse_time(end, now=now))
    if span.end_us < span.start_us:
        raise InvalidTime(f"end ({end}) lies before start ({start})")
    return span


def _parse_rfc3339(text: str) -> int:
    try:
        time = datetime.fromisoformat(text.upper())
        if time.tzinfo is None:
            raise InvalidTime(f"{text[:50]!r} has no zone; append Z for UTC")
        return to_us(time)
    except (ValueError, OverflowError):
        raise InvalidTime(
            f"{text[:50]!r} is not a time: use RFC 3339 (2026-01-31T12:00:00Z), unix seconds, "
            f"-15m, or now{_meant(text)}"
        ) from None


def _meant(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError:
        return ""
    return f"; did you mean -{text}?"


def _checked(time_us: int, text: str) -> int:
    if time_us >= FAR_FUTURE_US:
        raise InvalidTime(
            f"{text[:50]} lies beyond the year 2200: times are in seconds, is this milliseconds?"
        )
    if time_us < 0 or math.isnan(time_us):
        raise InvalidTime(f"{text[:50]} lies before 1970")
    return time_us


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
