"""Content negotiation: an answer has the format that `Accept` gives the most weight."""

import re
from collections.abc import Callable, Mapping

from infrawatch.query import encoding
from infrawatch.query.results import SampleStream
from infrawatch.query.streaming import Pieces

Encode = Callable[[SampleStream, str], Pieces]

FORMATS: Mapping[str, Encode] = {
    "application/json": encoding.encode_json,
    "application/x-ndjson": encoding.encode_ndjson,
    "application/ndjson": encoding.encode_ndjson,
    "application/jsonl": encoding.encode_ndjson,
    "text/csv": encoding.encode_csv,
}
"""Those of a batch, by the same names, and CSV."""

_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def wanted_format(accept: str) -> str:
    """The media type, of those in `FORMATS`, that an `Accept` header prefers.

    JSON wins ties, and is the answer if the header accepts none of them.
    Source: RFC 9110, section 12.5.1.
    """
    weights = dict(map(_weighed, accept.lower().split(",")))

    def weight(media_type: str) -> float:
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((weights[media_range] for media_range in ranges if media_range in weights), 0.0)

    return max(FORMATS, key=weight)


def _weighed(element: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip() for part in element.split(";"))
    weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    return media_type, float(weight) if _WEIGHT.fullmatch(weight) else 0.0
