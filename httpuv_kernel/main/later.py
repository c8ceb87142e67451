"""Callbacks in the order of their time, then of their arrival.

What came over the network and what `later` scheduled wait in one queue, so that neither overtakes
the other. Main side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

__all__ = ["CallbackQueue", "Entry"]

# [when, arrival, function or None once cancelled, arguments]; a list, so that it can be cancelled.
Entry: TypeAlias = list[Any]


class CallbackQueue:
    """What the main thread has to run. `push` and `cancel` in any thread, the rest on the main one.

    Each heap operation is one C call, which the GIL makes whole; `arrival` is unique, so comparing
    entries never reaches the functions.
    """

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._arrivals = itertools.count()

    def push(self, when: float, function: Callable[..., None], *arguments: object) -> Entry:
        """Run `function(*arguments)` when time.monotonic() has reached `when`."""
        entry: Entry = [when, next(self._arrivals), function, arguments]
        heappush(self._heap, entry)
        return entry

    def cancel(self, entry: Entry) -> None:
        """Do not run it, if it has not begun."""
        entry[2] = None

    def pop_due(self, now: float) -> Entry | None:
        """Take the entry that is due first; None when none is."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            if entry[2] is not None:
                return entry
        return None

    def next_due(self) -> float | None:
        """When the next entry is due, as time.monotonic(); None when nothing waits."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heappop(heap)
        return heap[0][0] if heap else None
