"""When the answers of callbacks leave: at once, or with those of the callbacks after them.

Under a flood of quick callbacks, each answer in a packet of its own would cost the main thread more
than the callback. So answers wait for each other while nearly all callbacks have been quick, and
then for less than a millisecond; behind a callback that is not, see `held`, for two.

Main side; main thread.
"""

from __future__ import annotations

import math
from typing import Final

from ..bridge import Questions

__all__ = ["Pacing"]

_QUICK: Final = 100e-6  # seconds that a quick callback takes at most
_FLOOD: Final = 64  # so many more of them than slow ones, and the next is taken to be quick as well
_MOST: Final = 2 * _FLOOD  # that are remembered
_SLOW: Final = 16  # so many quick ones a slow one outweighs; the system makes some of them slow
_LONG: Final = 0.01  # seconds that no system takes a core away for; such a one outweighs all
_TOGETHER: Final = 500e-6  # the longest that an answer waits for others


class Pacing:
    """Corks the network sides that callbacks answer to, and uncorks them."""

    def __init__(self, networks: list[Questions]) -> None:
        self._networks = networks
        self._corked: list[Questions] = []  # a list of our own: the other changes with the servers
        self._quick = 0
        self._last = 0.0
        self._until = math.inf

    def begin(self, now: float) -> None:
        """Callbacks are about to run."""
        self._last = now
        if self._quick >= _FLOOD:
            self._until = now + _TOGETHER
            self._corked = list(self._networks)
            for network in self._corked:
                network.cork()

    def step(self, now: float) -> None:
        """One has run."""
        taken = now - self._last
        if taken > _QUICK:
            self._quick = 0 if taken > _LONG else max(0, self._quick - _SLOW)
            self.end()
            self.begin(now)
        else:
            if self._quick < _MOST:
                self._quick += 1
            if now >= self._until:
                self.end()
                self.begin(now)
        self._last = now

    def end(self) -> None:
        """The last has run, or one is about to wait: nothing is held back any more."""
        if self._corked:
            corked, self._corked, self._until = self._corked, [], math.inf
            for network in corked:
                network.uncork()
