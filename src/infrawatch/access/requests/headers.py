"""Request headers, read without Starlette's `Headers`, which takes several times as long."""

from typing import TypeVar

from starlette.types import Scope

T = TypeVar("T")


def find_header(scope: Scope, name: bytes, default: T) -> str | T:
    """Return the first value of a header, given its name in lower case, or else the default."""
    for one, value in scope["headers"]:
        if one == name:
            found: str = value.decode("latin-1")
            return found
    return default
