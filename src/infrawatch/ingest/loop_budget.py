"""What may be read on the event loop, where everybody else waits meanwhile: ten ms of work."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from infrawatch.ingest.decoded import Find

T = TypeVar("T", covariant=True)  # noqa: PLC0105  # a TypeVar of a protocol, nothing else

MOST_NEW = 1_000
_MOST_NEW_BYTES = 128 * 1024
"""To look at so many keys of series, or so long ones, for the first time takes ten milliseconds."""


class BlocksLoop(Exception):
    """Raised on the loop by what would block it for longer: call it again, in a thread."""


class Read(Protocol[T]):
    """Reads a body; on the loop, it says so if that takes long, and has changed nothing then.

    How long it takes nobody can tell by a body's size alone: what senders write is read a hundred
    times as fast as what attackers do.
    """

    def __call__(self, body: bytes, *, on_loop: bool = False) -> T:
        """Read it.

        Raises:
            BlocksLoop: on the loop only.
        """


def check_budget(*, on_loop: bool, is_long: bool) -> None:
    """Go on, unless this is on the loop and would take long.

    Raises:
        BlocksLoop: so it is.
    """
    if on_loop and is_long:
        raise BlocksLoop


def find_known(find: Find, keys: Sequence[bytes], *, on_loop: bool) -> Sequence[int | None]:
    """What `find` finds; on the loop, little of it may be new.

    Raises:
        BlocksLoop: on the loop, and more is.
    """
    ids = find(keys)
    if on_loop and None in ids:
        new = [len(key) for key, series_id in zip(keys, ids, strict=True) if series_id is None]
        check_budget(on_loop=True, is_long=len(new) > MOST_NEW or sum(new) > _MOST_NEW_BYTES)
    return ids
