"""The main side's end of the bridge to a network process, and that process.

Main side.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any

from .. import messages
from ..bridge import Channel, Questions
from ..errors import NetworkError
from ..hosts.base import wait_readable
from ..link import Link, LinkClosed, socket_pair
from .interrupts import InterruptGuard
from .networks import JOIN_TIMEOUT, Network

__all__ = ["NetworkProcess", "ProcessBridge", "process_of"]

_SEND_TIMEOUT = 10.0  # the process does nothing but serve: one that takes longer hangs
_START_TIMEOUT = 20.0
_GLANCE = 0.02  # another thread may read the reply that one waits for
_PACKAGE = str(Path(__file__).parent.parent)
# The package without its __init__, which imports the main side: half the time to start.
_BOOT = """
import sys, types
package = types.ModuleType("httpuv_kernel")
package.__path__ = [sys.argv[1]]
sys.modules["httpuv_kernel"] = package
from httpuv_kernel.network.child import main
main(*map(int, sys.argv[2:]))
"""
_IDS = 40  # bits; above them an exchange's id has the number of its process


def process_of(exchange: int) -> int:
    """The number of the process that an exchange belongs to; 0 for the thread of this one."""
    return exchange >> _IDS


class ProcessBridge(Questions):
    """Any thread. Sends at once, and waits when the process does not take what is sent."""

    def __init__(
        self, inbox: Channel, link: Link, uninterrupted: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """`uninterrupted`: a context that an interrupt does not tear."""
        super().__init__()
        self._inbox = inbox
        self._link = link
        self._uninterrupted = uninterrupted
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self.is_closed = False

    @InterruptGuard.waits
    def send(self, message: messages.Message) -> None:
        """Hand a message to the process; to one that is gone, nothing."""
        if self.is_closed:
            return
        self._link.put([message])
        self._flush()

    def nudge(self) -> None:
        """Nothing to do: what was sent wakes the process."""

    def close(self) -> None:
        """The process is gone, or to go."""
        self.is_closed = True
        self._link.close()
        for future in list(self._calls.values()):
            with contextlib.suppress(Exception):  # it was answered meanwhile
                future.set_exception(NetworkError("the network process has ended"))

    def pump(self) -> list[Any]:
        """What the process has sent: (time, message) pairs. Does not wait."""
        found: list[Any] = []
        if self.is_closed or not self._receiving.acquire(blocking=False):
            return found  # who reads puts it in the inbox
        try:
            while (batch := self._link.receive()) is not None:
                for item in batch:
                    if not self._take_reply(item[1]):
                        found.append(item)
                self._link.put([(messages.CREDIT,)])
            self._flush()
        except LinkClosed:
            self.is_closed = True
        finally:
            self._receiving.release()
        return found

    def _take_reply(self, message: messages.Message) -> bool:
        kind = message[0]
        if kind == messages.REPLY:
            self.reply(*message[1:])
        elif kind == messages.REPLY_ERROR:
            self.reply_error(*message[1:])
        elif kind == messages.LOG:
            logging.getLogger(message[1]).log(message[2], "%s", message[3])
        else:
            return False
        return True

    def _flush(self) -> None:
        deadline = monotonic() + _SEND_TIMEOUT
        with self._sending:
            try:
                while not self._link.flush():
                    if monotonic() > deadline:
                        raise NetworkError("the network process takes no messages")
                    select.select([], [self._link.fileno()], [], 0.1)
            except LinkClosed:
                self.is_closed = True

    @InterruptGuard.waits
    def _wait(self, future: Future[Any], timeout: float) -> Any:
        deadline = monotonic() + timeout
        with self._uninterrupted():
            while not future.done():
                if self.is_closed:
                    raise NetworkError("the network process has ended")
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError
                wait_readable(self._link.fileno(), min(left, _GLANCE))
                for item in self.pump():
                    self._inbox.put(item)
        return future.result()


class NetworkProcess(Network):
    """The process: a fresh interpreter, which ends with this one."""

    bridge: ProcessBridge

    def __init__(
        self,
        number: int,
        inbox: Channel,
        uninterrupted: Callable[[], AbstractContextManager[None]],
        on_end: Callable[[int, int], None],
    ) -> None:
        """Start it, and return when it serves.

        Args:
            number: of this process among all that were started, from 1.
            inbox: where its messages go.
            uninterrupted: see `ProcessBridge`.
            on_end: called in a thread of its own with number and exit code, when it ends unasked.

        Raises:
            NetworkError: it does not start.
        """
        ours, theirs = socket_pair()
        wake = inbox.wake.share()
        first_id = number << _IDS
        with theirs:
            numbers = [theirs.fileno(), wake, first_id]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, _PACKAGE, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=numbers[:2],
                start_new_session=True,  # a terminal's Ctrl-C is not for it
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.bridge = ProcessBridge(inbox, Link(ours), uninterrupted)
        ready: Future[None] = Future()
        self.bridge._calls[0] = ready
        try:
            self.bridge._wait(ready, _START_TIMEOUT)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self.bridge.close()
            raise
        inbox.pumps.append(self.bridge.pump)
        self._inbox = inbox
        self._on_end = on_end
        self._number = number
        self._is_stopping = False
        threading.Thread(target=self._watch, name="httpuv-process", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        self._is_stopping = True
        try:
            if self.is_alive:
                self.bridge.ask(messages.QUIT, timeout=JOIN_TIMEOUT)
        finally:
            self.bridge.close()
            with contextlib.suppress(ValueError):
                self._inbox.pumps.remove(self.bridge.pump)
            try:
                self._process.wait(JOIN_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def forget_in_child(self) -> None:
        """In a forked child: the process is the parent's."""
        self.bridge.is_closed = True
        self.bridge._link.close()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._is_stopping:
            self._on_end(self._number, code)
