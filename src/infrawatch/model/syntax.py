"""What the parser of PromQL says of a text that is wrong, and what to do about it."""

import re

_HINTS = {
    "no expression found in input": "it is empty",
    "unexpected character after '.'": (
        'write a name with dots in braces and quotes: {"http.server.duration"}'
    ),
    "in label matching, expected string": "put the value in quotes",
    "unexpected end of input inside braces": "close them with }",
    "unexpected character inside braces": 'a matcher is label="value", or with !=, =~ or !~',
    "at least one non-empty matcher": "name a metric, or a label with a value",
    "expected type matrix": "give it a range, such as node_load1[5m]",
    "in aggregation expression, got matrix": "aggregate over time first: sum(rate(x[5m]))",
}
"""By a part of the parser's message."""

_NO_REASON = "invalid promql query"
_OPEN_END = re.compile(r"([-+*/%^,(]|[=!<>]=?|\b(?:and|or|unless|atan2|by|without|on|bool))\s*$")


def explained(message: str, text: str) -> str:
    """Return the parser's message about a text, with a hint where one helps."""
    if message == _NO_REASON:
        if open_end := _OPEN_END.search(text):
            return f"something is missing behind {open_end[1]!r}, with which it ends"
        return (
            "words stand beside each other that do not belong together; look for a missing "
            "operator, and for `sum by (label) (…)`"
        )
    hint = next((hint for part, hint in _HINTS.items() if part in message), None)
    return message[:300] if hint is None else f"{message[:300]}; {hint}"
