"""The time budget for decoding on the event loop, which blocks other requests: ten ms."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from infrawatch.ingest.decoded import Find

T = TypeVar("T", covariant=True)  # noqa: PLC0105  # a TypeVar of a protocol, nothing else

MAX_NEW = 1_000
_MAX_NEW_BYTES = 128 * 1024
"""Checking this many new series keys, or this many bytes of them, takes ten milliseconds."""


class BlocksLoop(Exception):
    """Raised on the loop by work that would block it for longer: repeat it in a thread."""


class Read(Protocol[T]):
    """Decodes a body; on the loop, raises `BlocksLoop` if that takes long, without side effects.

    The size of a body alone does not tell how long it takes: the bodies of real senders are decoded
    a hundred times as fast as those of attackers.
    """

    def __call__(self, body: bytes, *, on_loop: bool = False) -> T:
        """Read it.

        Raises:
            BlocksLoop: on the loop only, if it would take too long.
        """


def check_budget(*, on_loop: bool, is_long: bool) -> None:
    """Refuse to run long work on the event loop.

    Raises:
        BlocksLoop: on the loop only, if the work is long.
    """
    if on_loop and is_long:
        raise BlocksLoop


def find_known(find: Find, keys: Sequence[bytes], *, on_loop: bool) -> Sequence[int | None]:
    """Look up keys with `find`; on the loop, only few of them may be new.

    Raises:
        BlocksLoop: on the loop only, if too many are new.
    """
    ids = find(keys)
    if on_loop and None in ids:
        new = [len(key) for key, series_id in zip(keys, ids, strict=True) if series_id is None]
        check_budget(on_loop=True, is_long=len(new) > MAX_NEW or sum(new) > _MAX_NEW_BYTES)
    return ids
