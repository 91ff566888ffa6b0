"""The duration format of settings, queries and options: `90s`, `15m`, `15d`."""

import re
from datetime import timedelta

_UNITS = {
    "y": timedelta(days=365),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
"""In the order in which a duration has them."""

_PART = re.compile(r"([0-9]{1,12})(ms|s|m|h|d|w|y)")
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


def parse_duration(text: str) -> timedelta:
    """Read a Prometheus duration (`1h30m`) or a plain number of seconds (`90`, `0.5`).

    Source: Prometheus, "Querying basics", float literals and time durations.

    Raises:
        ValueError: it is neither, or exceeds the range of `timedelta` (about 2.7 million years).
    """
    parts = _PART.findall(text)
    try:
        if _SECONDS.fullmatch(text):
            return timedelta(seconds=float(text))
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text[:50]!r} is not a duration such as 90s, 15m, 2h or 15d")
        units = [unit for _, unit in parts]
        if units != [unit for unit in _UNITS if unit in units]:
            raise ValueError(f"{text[:50]!r}: write larger units first, and each once: 1h30m")
        return sum((int(number) * _UNITS[unit] for number, unit in parts), timedelta())
    except OverflowError:
        raise ValueError(f"{text[:50]!r} is too long") from None
