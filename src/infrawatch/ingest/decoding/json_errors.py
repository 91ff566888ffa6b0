"""Actionable messages for bodies that are not valid JSON."""

from infrawatch.errors import MalformedBody

_BEGINNINGS = (
    (b"\x1f\x8b", "it is compressed with gzip: send `Content-Encoding: gzip`"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: send `Content-Encoding: zstd`"),
    (b"\xef\xbb\xbf", "it begins with a byte order mark: leave that out"),
    (b"\xff\xfe", "it is UTF-16: send UTF-8"),
    (b"\xfe\xff", "it is UTF-16: send UTF-8"),
)
"""Sources: RFC 1952 (2.3.1), RFC 8878 (3.1.1), and the Unicode Standard (23.8)."""

_MORE = "trailing characters"
_LINES_HINT = "; for one series a line, send `Content-Type: application/x-ndjson`"


def malformed(body: bytes, error: ValueError, *, may_be_lines: bool = False) -> MalformedBody:
    """Convert a parser's error; with `may_be_lines`, hint at NDJSON if the body looks like it."""
    if not body.strip():
        return MalformedBody("the body is empty: send a JSON document")
    is_lines = may_be_lines and b"\n" in body and str(error).startswith(_MORE)
    hint = _LINES_HINT if is_lines else ""
    return MalformedBody(f"the body is not JSON: {_reason(body, error)}{hint}")


def line_problem(line: bytes, error: ValueError) -> str:
    """Describe a parser's error in one line, without the line's number in the body."""
    reason = _reason(line, error).replace(" at line 1 column ", " at column ")
    return f"the line is not JSON: {reason}"


def _reason(text: bytes, error: ValueError) -> str:
    """What the text is instead of JSON if its beginning tells, else the parser's error."""
    return next((why for beginning, why in _BEGINNINGS if text.startswith(beginning)), str(error))
