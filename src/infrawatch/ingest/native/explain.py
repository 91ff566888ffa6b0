"""Pydantic's errors in a native series as a location, an API error code and the expected form."""

from typing import NamedTuple

from pydantic_core import ErrorDetails

from infrawatch.ingest import schemas

_CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "finite_number": "not_finite",
    "greater_than_equal": "out_of_range",
    "labels": "too_many_labels",
    "less_than": "out_of_range",
    "literal_error": "unknown_value",
    "metric_label": "invalid_label_name",
    "string_too_long": "too_long",
    "too_short": "empty",
    "unknown_fields": "unknown_field",
}
"""Pydantic's error types → codes, which are part of the API; any other is `wrong_type`."""

_UNKNOWN_FIELD = (
    "no such field: a batch has series; a series has metric, labels, type, unit, help and samples"
)
_OBJECT = (
    'an object belongs here: a batch is {"series": […]}, '
    'a series {"metric": "…", "labels": {…}, "samples": [[time, value]]}'
)
_SAMPLE = "a sample is [time, value]"
_TEXT = "text of at most 1,024 characters, without NUL"
_LABEL_NAME = (
    "a label's name has letters, digits, _ and ., begins with a letter or _, "
    "and has at most 200 characters"
)
_FIELDS = {
    "series": f"series is a list of 1 to {schemas.MAX_BATCH_SERIES:,} series",
    "metric": (
        "a metric is text of letters, digits, _ and :, does not begin with a digit, "
        "and has at most 200 characters"
    ),
    "labels": 'labels are an object of texts: {"host": "web-1"}',
    "type": "a type is gauge, counter, histogram, summary or unknown",
    "unit": f"a unit is {_TEXT}",
    "help": f"help is {_TEXT}",
    "samples": f"samples is a list of at least one sample, and {_SAMPLE}",
}
_PARTS = {
    ("labels", 2): "a label's value is text of at most 4,096 characters, without NUL",
    ("labels", 3): _LABEL_NAME,
    ("samples", 2): _SAMPLE,
}
_NUMBERS = (
    "a time is an integer of 64 bits: milliseconds since 1970, or what ?precision= says",
    "a value is a finite number, without quotes",
)


class Explained(NamedTuple):
    """A JSON pointer relative to the series, a stable code, and the expected form."""

    path: str
    code: str
    detail: str


def explain(found: ErrorDetails) -> Explained:
    """Explain an error without repeating the sender's data."""
    return Explained(_path(found), _code(found), _detail(found))


def _path(found: ErrorDetails) -> str:
    """A JSON pointer to the invalid value; for a missing field, to the object that lacks it."""
    location = found["loc"][:-1] if _is_about_key(found) else found["loc"]
    if found["type"] == "missing":
        location = location[:-1]
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _code(found: ErrorDetails) -> str:
    if found["type"] != "string_pattern_mismatch":
        return _CODES.get(found["type"], "wrong_type")
    if _is_about_key(found):
        return "invalid_label_name"
    return {"metric": "invalid_metric", "labels": "invalid_label_value"}.get(
        str(found["loc"][0]), "invalid_text"
    )


def _is_about_key(found: ErrorDetails) -> bool:
    """Whether an error is about a label's name, which Pydantic locates as labels, key, `[key]`."""
    return found["loc"][2:] == ("[key]",)


def _detail(found: ErrorDetails) -> str:
    location = found["loc"]
    if found["type"] == "missing":
        lacking = location[-1]
        return f"the field {lacking!r} is required" if isinstance(lacking, str) else _SAMPLE
    if found["type"] in ("labels", "unknown_fields"):
        return found["msg"]
    if found["type"] == "extra_forbidden":
        return _UNKNOWN_FIELD
    if not location:
        return _OBJECT
    field = str(location[0])
    if field == "samples" and len(location) == len(("samples", "place", "part")):
        return _NUMBERS[int(location[2])]
    return _PARTS.get((field, len(location))) or _FIELDS.get(field, found["msg"])
