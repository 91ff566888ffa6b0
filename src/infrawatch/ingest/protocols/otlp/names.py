"""OpenTelemetry's names become Prometheus' names, the way Prometheus does it by default.

Source: github.com/prometheus/otlptranslator, strategy UnderscoreEscapingWithSuffixes.
"""

import re
from typing import Literal

Kind = Literal["gauge", "counter", "other"]
"""What decides on a suffix: counters end in `_total`, gauges with unit 1 in `_ratio`."""

_TOKEN = re.compile(r"[a-zA-Z0-9:]+")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",  # Prometheus' spelling, so that its dashboards find it
    "KBy": "kilobytes",
    "kBy": "kilobytes",  # what UCUM says; Prometheus knows only the other
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}


def metric_name(name: str, unit: str, kind: Kind) -> str:
    """`http.server.duration` in `s` → `http_server_duration_seconds`.

    A word for the unit is left out if the name has it already; what every name ends with
    (`total`, `ratio`) comes last and once. Empty when no character of the name can be kept.
    """
    words: list[str] = _TOKEN.findall(name)
    words += [word for word in _unit_words(unit) if word not in words]
    suffix = {"counter": "total", "gauge": "ratio" if unit == "1" else "", "other": ""}[kind]
    if suffix:
        words = [word for word in words if word != suffix] + [suffix]
    joined = "_".join(words)
    return f"_{joined}" if joined[:1].isdigit() else joined


def unit_name(unit: str) -> str:
    """The unit as metadata says it: `By/s` → `bytes_per_second`; empty for `1` and `{request}`."""
    return "_".join(_unit_words(unit))


def label_name(key: str) -> str | None:
    """`service.name` → `service_name`; None when nothing but underscores would be left."""
    name = _NOT_IN_LABEL.sub("_", key)
    if not name.strip("_"):
        return None
    if name[0].isdigit():
        return f"key_{name}"
    if name[0] == "_" and name[1] != "_":
        return f"key{name}"
    return name


def _unit_words(unit: str) -> list[str]:
    """The part before the slash and the part behind it; what stands in braces is a remark."""
    main, _, per = (part.strip() for part in unit.partition("/"))
    words = [
        "" if _is_remark(main) else _cleaned(_UNITS.get(main, main)),
        "" if _is_remark(per) or not per else _cleaned(f"per_{_PER.get(per, per)}"),
    ]
    return [word for word in words if word not in ("", "per")]


def _is_remark(unit: str) -> bool:
    return "{" in unit or "}" in unit


def _cleaned(word: str) -> str:
    return "_".join(_TOKEN.findall(word))
