"""A queue in which tenants take turns, so that nobody waits for all that another has sent."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Each tenant's own stay in order; between two of them, every other tenant has one."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[T]] = {}  # the first is next
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, tenant_id: int, one: T) -> None:
        self._queues.setdefault(tenant_id, deque()).append(one)
        self._length += 1

    def popleft(self) -> T:
        """Take the first of the tenant whose turn it is, and let all others be before it.

        Raises:
            StopIteration: there is none.
        """
        tenant_id = next(iter(self._queues))
        queue = self._queues.pop(tenant_id)
        one = queue.popleft()
        if queue:
            self._queues[tenant_id] = queue
        self._length -= 1
        return one

    def remove(self, tenant_id: int, one: T) -> None:
        """Take one out, wherever it stands; one that is not there does not matter."""
        queue = self._queues.get(tenant_id, deque())
        if one in queue:
            queue.remove(one)
            self._length -= 1
        if not queue:
            self._queues.pop(tenant_id, None)

    def drain(self) -> Iterator[T]:
        """Take all that is left."""
        while self._queues:
            yield self.popleft()
