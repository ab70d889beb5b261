"""How the items lie in a queue: in the order of their coming, the last on top, or by priority."""

import collections
import heapq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class FirstInFirstOut:
    """The items of a Queue."""

    __slots__ = ("_items", "put", "take")

    def __init__(self) -> None:
        self._items: collections.deque[Any] = collections.deque()
        self.put = self._items.append
        self.take = self._items.popleft

    def __len__(self) -> int:
        return len(self._items)

    def drain(self) -> "list[Any]":
        """Take all items."""
        drained = list(self._items)
        self._items.clear()
        return drained


class LastInFirstOut:
    """The items of a LifoQueue."""

    __slots__ = ("_items", "put", "take")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self.put = self._items.append
        self.take = self._items.pop

    def __len__(self) -> int:
        return len(self._items)

    def drain(self) -> "list[Any]":
        """Take all items."""
        drained = self._items[:]
        self._items.clear()
        return drained


class SmallestFirstOut:
    """The items of a PriorityQueue. An item whose comparison fails is neither put nor lost."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[Any] = []

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: "Any") -> None:
        """Put an item in."""
        before = len(self._items)
        try:
            heapq.heappush(self._items, item)
        except BaseException:
            if len(self._items) > before:
                # It stands somewhere on its way up. The others have been compared before.
                index = next(i for i, other in enumerate(self._items) if other is item)
                del self._items[index]
                heapq.heapify(self._items)
            raise

    def take(self) -> "Any":
        """Take the smallest item out."""
        item = self._items[0]
        before = len(self._items)
        try:
            return heapq.heappop(self._items)
        except BaseException:
            if len(self._items) < before:
                self._items.append(item)
            raise

    def drain(self) -> "list[Any]":
        """Take all items, in no order."""
        drained = self._items[:]
        self._items.clear()
        return drained
