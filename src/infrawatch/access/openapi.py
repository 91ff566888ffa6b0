"""Authentication in the OpenAPI document: the forms of keys, and responses to refusals."""

from typing import Any

from infrawatch.access.needs import SCHEME
from infrawatch.problems import problem_response

_SCHEMES: dict[str, dict[str, str]] = {
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The key is the password; the user may be anything.",
    },
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Token iw_…`, as clients of InfluxDB write it.",
    },
}

_REFUSALS = {
    "401": "No key, or one that is wrong, revoked or expired.",
    "403": "The key lacks the scope that this needs.",
    "429": "A limit is used up: wait for `Retry-After`. Or too many wrong keys came from there.",
}


def describe(document: dict[str, Any], *, is_required: bool) -> None:
    """Add the other forms of a key to operations that need one, and the responses to refusals."""
    document["components"].setdefault("securitySchemes", {}).update(_SCHEMES)
    for operations in document["paths"].values():
        for operation in operations.values():
            needed = operation.get("security")
            if not needed:
                operation["security"] = []
                continue
            scopes = needed[0][SCHEME]
            operation["security"] = [{name: scopes} for name in (SCHEME, *_SCHEMES)]
            if not is_required:
                operation["security"].append({})
            for status, description in _REFUSALS.items():
                operation["responses"].setdefault(status, problem_response(description))
