"""Callbacks in the order of their time, then of their arrival.

What came over the network and what `later` scheduled wait in one queue, so that neither overtakes
the other. A private loop has a queue of its own.

Main side; main thread, but for `new_entry` and `cancel`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

__all__ = ["CallbackQueue", "Entry", "cancel", "new_entry"]

# [when, arrival, function or None once cancelled, arguments]; a list, so that it can be cancelled.
# `arrival` is unique, so comparing entries never reaches the functions.
Entry: TypeAlias = list[Any]

_arrivals = itertools.count()


def new_entry(when: float, function: Callable[..., None], *arguments: object) -> Entry:
    """To run `function(*arguments)` when time.monotonic() has reached `when`. Any thread."""
    return [when, next(_arrivals), function, arguments]


def cancel(entry: Entry) -> None:
    """Do not run it, if it has not begun. Any thread."""
    entry[2] = None


class CallbackQueue:
    """What the main thread has to run."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []

    def push(self, when: float, function: Callable[..., None], *arguments: object) -> Entry:
        """Add a callback."""
        entry: Entry = [when, next(_arrivals), function, arguments]
        heappush(self._heap, entry)
        return entry

    def add(self, entry: Entry) -> None:
        """Add what `new_entry` made."""
        heappush(self._heap, entry)

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

    def pour_into(self, other: CallbackQueue) -> None:
        """Hand over what waits, and be one with the other from now on."""
        other._heap += self._heap
        heapify(other._heap)
        self._heap = other._heap
