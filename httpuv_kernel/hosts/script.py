"""A plain script: never idle, callbacks run inside `service()`, `run_now()`, `run_server()`.

Imports neither side.
"""

from __future__ import annotations

from collections.abc import Callable

from .own_loop import OwnLoopHost

__all__ = ["ScriptHost"]


class ScriptHost(OwnLoopHost):
    """Waits only when it is told to."""

    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Nothing to do: there is no idle."""
