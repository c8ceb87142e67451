"""Snapshots that the main side has published: answered without it, also while a cell runs.

Network side.
"""

from __future__ import annotations

from ..fields import ResponseHead
from .exchange import Exchange, Reply

__all__ = ["Published"]


class Published:
    """What one server publishes, by path."""

    def __init__(self) -> None:
        self._replies: dict[bytes, Reply] = {}

    def __bool__(self) -> bool:
        return bool(self._replies)

    def put(self, path: bytes, head: ResponseHead, body: bytes) -> None:
        """Answer requests for a path with this from now on."""
        self._replies[path] = Reply(ResponseHead(*head), body)

    def remove(self, path: bytes) -> None:
        """Do so no longer."""
        self._replies.pop(path, None)

    def answer(self, exchange: Exchange) -> Reply | None:
        """The response; None when the request is for something else."""
        if exchange.method not in (b"GET", b"HEAD"):
            return None
        return self._replies.get(exchange.facts.target.partition(b"?")[0])
