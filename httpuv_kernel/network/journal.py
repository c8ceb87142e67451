"""What a server answered of late: the access log, and how many requests there were; how often other
logs may hear of the same.

Network side.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from time import monotonic, time

from ..messages import JournalEntry
from .exchange import Exchange

__all__ = ["Journal", "Seldom"]

_TARGET_BYTES = 1000  # of each that is kept: a client's may have 64 KiB

_SELDOM_SECONDS = 1.0

access_log = logging.getLogger("httpuv_kernel.access")


class Seldom:
    """Says yes at most once a second: who floods a server is not to flood its log."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = -math.inf

    def is_due(self) -> bool:
        """Whether this may be said."""
        now = monotonic()
        if now < self._until:
            return False
        self._until = now + _SELDOM_SECONDS
        return True


class Journal:
    """The last responses of one server."""

    __slots__ = ("_entries", "_logs", "requests")

    def __init__(self, size: int, *, logs: bool) -> None:
        """`logs`: each response is also a line of the logger "httpuv_kernel.access"."""
        self._entries: deque[JournalEntry] = deque(maxlen=size)
        self._logs = logs
        self.requests = 0
        """Requests that came so far."""

    def count(self, exchange: Exchange) -> None:
        """A request came. What the panel in the notebook asks is not the user's."""
        if not exchange.facts.is_internal:
            self.requests += 1

    def record(self, peer: str, exchange: Exchange, status: int, size: int) -> None:
        """A response is written, with so many bytes of body, or its client has left."""
        if exchange.facts.is_internal:
            return
        now, target = monotonic(), exchange.facts.target[:_TARGET_BYTES]
        seconds, waited = now - exchange.begun, exchange.waited
        self._entries.append((now, peer, exchange.method, target, status, size, seconds, waited))
        if self._logs:
            access_log.info(
                "%s %s %s %d %.1f ms",
                peer or "-",
                exchange.method.decode() or "-",
                target.decode("latin-1") or "-",
                status,
                seconds * 1000,
            )

    def last(self, count: int) -> list[JournalEntry]:
        """The last entries, the oldest first; their time as time.time()."""
        entries = list(self._entries)[-count:] if count > 0 else []
        offset = time() - monotonic()
        return [(entry[0] + offset, *entry[1:]) for entry in entries]
