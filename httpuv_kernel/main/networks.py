"""The network sides that this process can have, as the runtime starts and stops them.

The only module of the main side that imports the other side.

Main side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .. import messages
from ..bridge import Bridge, Channel, Questions
from ..config import HTTPUV
from ..network.loop import NetworkThread

__all__ = ["JOIN_TIMEOUT", "Network", "ThreadNetwork"]

JOIN_TIMEOUT = 2.0  # a thread that is held up longer is left behind; it is a daemon


class Network(ABC):
    """One network side, from its start to its end. Any thread."""

    bridge: Questions

    @property
    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it runs."""

    @abstractmethod
    def stop(self) -> None:
        """End it, once its servers are stopped.

        Raises:
            NetworkError: it does not answer.
        """

    @abstractmethod
    def forget_in_child(self) -> None:
        """In a forked child: let go of its sockets without touching its loop."""


class ThreadNetwork(Network):
    """A network side in a thread of this process."""

    def __init__(self, inbox: Channel) -> None:
        bridge = Bridge(inbox, check_plain=HTTPUV.instance().check_bridge)
        self.bridge: Bridge = bridge
        self._thread = NetworkThread(bridge)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive

    def stop(self) -> None:
        """End the thread, and wait for that."""
        try:
            if self._thread.is_alive:
                self.bridge.ask(messages.QUIT, timeout=JOIN_TIMEOUT)
        finally:
            if self._thread.join(JOIN_TIMEOUT):
                self.bridge.close()

    def forget_in_child(self) -> None:
        """Close the descriptors that the thread would serve."""
        self._thread.close_descriptors()
        self.bridge.close()
