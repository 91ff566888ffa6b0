"""Labels from the query string for every series of a body, because the body cannot carry them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Query

from infrawatch.errors import InvalidInput

ExtraLabels = Annotated[
    Sequence[str], Query(description="`name=value`, added to every series; may be repeated.")
]


def read_extra_labels(written: Sequence[str]) -> Mapping[str, str]:
    """Read labels, each written `name=value`.

    Raises:
        InvalidInput: one of them is not written like this.
    """
    pairs = [label.partition("=") for label in written]
    if not all(name and equals for name, equals, _ in pairs):
        raise InvalidInput("an extra_label is written name=value")
    return {name: value for name, _, value in pairs}
