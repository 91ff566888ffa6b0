"""In haste: how bodies are read on the event loop, where everybody else waits meanwhile."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from infrawatch.ingest.decoded import Find

T = TypeVar("T", covariant=True)  # noqa: PLC0105  # a TypeVar of a protocol, nothing else

MOST_NEW = 1_000
_MOST_NEW_BYTES = 128 * 1024
"""To look at so many keys of series, or so long ones, for the first time takes ten milliseconds."""


class TakesLong(Exception):
    """Raised in haste by who cannot be done in ten milliseconds or so: ask again, in a thread."""


class Read(Protocol[T]):
    """Reads a body; in haste, it says so if that takes long, and has changed nothing then.

    How long it takes nobody can tell by a body's size alone: what senders write is read a hundred
    times as fast as what attackers do.
    """

    def __call__(self, body: bytes, *, in_haste: bool = False) -> T:
        """Read it.

        Raises:
            TakesLong: in haste only.
        """


def be_brief(*, in_haste: bool, is_long: bool) -> None:
    """Go on, unless in haste and it would take long.

    Raises:
        TakesLong: so it is.
    """
    if in_haste and is_long:
        raise TakesLong


def find_briefly(find: Find, keys: Sequence[bytes], *, in_haste: bool) -> Sequence[int | None]:
    """What `find` finds; in haste, little of it may be new.

    Raises:
        TakesLong: in haste, and more is.
    """
    ids = find(keys)
    if in_haste and None in ids:
        new = [len(key) for key, series_id in zip(keys, ids, strict=True) if series_id is None]
        be_brief(in_haste=True, is_long=len(new) > MOST_NEW or sum(new) > _MOST_NEW_BYTES)
    return ids
