"""A queue in which tenants take turns, so that no tenant waits for all the items of another."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue that is FIFO per tenant and round-robin across tenants."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[T]] = {}  # in order of their turns
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, tenant_id: int, one: T) -> None:
        self._queues.setdefault(tenant_id, deque()).append(one)
        self._length += 1

    def popleft(self) -> T:
        """Remove and return the first item of the next tenant, which then goes to the end.

        Raises:
            StopIteration: the queue is empty.
        """
        tenant_id = next(iter(self._queues))
        queue = self._queues.pop(tenant_id)
        one = queue.popleft()
        if queue:
            self._queues[tenant_id] = queue
        self._length -= 1
        return one

    def remove(self, tenant_id: int, one: T) -> None:
        """Remove an item, if it is in the queue."""
        queue = self._queues.get(tenant_id, deque())
        if one in queue:
            queue.remove(one)
            self._length -= 1
        if not queue:
            self._queues.pop(tenant_id, None)

    def drain(self) -> Iterator[T]:
        """Remove and yield all items."""
        while self._queues:
            yield self.popleft()
