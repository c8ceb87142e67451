"""The main side's end of the bridge to a network process, and that process.

Main side.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic, time
from typing import Any

from .. import messages
from ..bridge import Channel, Questions
from ..errors import NetworkError
from ..hosts.base import wait_readable
from ..link import Bell, Link, LinkClosed, socket_pair
from .held import HeldBack
from .interrupts import InterruptGuard
from .networks import JOIN_TIMEOUT, Network

__all__ = ["Inbox", "NetworkProcess", "ProcessBridge", "process_of"]

log = logging.getLogger("httpuv_kernel")

_SEND_TIMEOUT = 10.0  # the process does nothing but serve: one that takes longer hangs
_START_TIMEOUT = 20.0
_HELD_KINDS = frozenset({messages.RESPOND, messages.CHUNK})
_HELD_BYTES = 4096  # of a body or piece: larger ones are worth a packet of their own
_GLANCE = 0.02  # another thread may read the reply that one waits for
_PACKAGE = str(Path(__file__).parent.parent)
# The package without its __init__, which imports the main side: half the time to start. Modules of
# the working directory, or of one that a program put before the library's, must not hide those.
_BOOT = """
import sys, types
sys.path[:] = filter(None, sys.path)
package, link, wake, bell, first_id, directory, *paths = sys.argv[1:]
sys.path += [path for path in paths if path not in sys.path]
sys.modules["httpuv_kernel"] = types.ModuleType("httpuv_kernel")
sys.modules["httpuv_kernel"].__path__ = [package]
from httpuv_kernel.network.child import main
main(int(link), int(wake), int(bell), int(first_id), directory)
"""
_OURS = frozenset({messages.REPLY, messages.REPLY_ERROR, messages.LOG})  # not for the inbox
_IDS = 40  # bits; above them an exchange's id has the number of its process


def process_of(exchange: int) -> int:
    """The number of the process that an exchange belongs to; 0 for the thread of this one."""
    return exchange >> _IDS


class Inbox(Channel):
    """The main side's messages: those of this process, and those that come by a link."""

    __slots__ = ("bell", "bridges")

    def __init__(self) -> None:
        super().__init__()
        self.bell = Bell(self.wake)
        self.bridges: list[ProcessBridge] = []
        """To the network process, when there is one."""

    def disarm(self) -> None:
        """Have the next message wake the reader, and take what came before. Reader's thread."""
        super().disarm()
        if self.bridges:
            self.bell.answer(True)
            self.bell.log_level = log.getEffectiveLevel()
            self._read_links()

    def hold(self) -> None:
        """Wake the reader for nothing but `nudge` until it takes again."""
        self.bell.answer(False)
        super().hold()

    def take(self) -> Iterator[Any]:
        """What is queued, until the queue is empty. The reader's thread only."""
        if not self._queue:
            self._read_links()
        return super().take()

    def _read_links(self) -> None:
        for bridge in self.bridges:
            bridge.pump(self._queue.append)

    def close(self) -> None:
        """Close the descriptors; nobody may watch any more."""
        self.bell.close()
        self.wake.close()


class ProcessBridge(Questions):
    """Any thread. Sends at once, and waits when the process does not take what is sent."""

    def __init__(
        self,
        inbox: Inbox,
        link: Link,
        uninterrupted: Callable[[], AbstractContextManager[None]],
        kill: Callable[[], None],
    ) -> None:
        """`uninterrupted`: a context that an interrupt does not tear; `kill` ends the process."""
        super().__init__()
        self._inbox = inbox
        self._link = link
        self._uninterrupted = uninterrupted
        self._kill = kill
        self._sending = threading.Lock()
        self._receiving = threading.Lock()  # also orders what is received in the inbox
        self._ordering = threading.Lock()  # what is held goes before what comes after it
        self._corked = False
        self._held = HeldBack(self._send_batch)
        self.is_closed = False

    @InterruptGuard.waits
    def send(self, message: messages.Message) -> None:
        """Hand a message to the process; to one that is gone, nothing."""
        self._send_batch(message)

    def _send_batch(self, *more: messages.Message) -> None:
        """Send what is held, and more, as one batch."""
        if self.is_closed:
            return
        with self._ordering:
            batch = [*self._held.take(), *more]
            if batch:
                self._link.put(batch)
        self._flush()

    @InterruptGuard.waits
    def send_soon(self, message: messages.Message) -> None:
        """Hand it over, or keep a small response, or piece of one, for the next. Main thread."""
        small = message[0] in _HELD_KINDS and len(message[-1]) <= _HELD_BYTES
        if small and self._corked:
            self._held.add(message)
        else:
            self.send(message)

    def cork(self) -> None:
        """One packet costs as much as ten answers in it: let them wait for each other."""
        self._corked = True

    @InterruptGuard.waits
    def uncork(self) -> None:
        """Send what waits as one batch."""
        self._corked = False
        self._send_batch()

    def nudge(self) -> None:
        """Nothing to do: what was sent wakes the process."""

    def close(self) -> None:
        """The process is gone, or to go."""
        self.is_closed = True
        self._held.close()
        with self._sending, self._receiving:
            self._link.close()
        for future in list(self._calls.values()):
            with contextlib.suppress(Exception):  # it was answered meanwhile
                future.set_exception(NetworkError("the network process has ended"))

    def forget_in_child(self) -> None:
        """In a forked child: close our copy, whatever a thread that is not here did with it."""
        self.is_closed = True
        self._link.close()

    def pump(self, put: Callable[[Any], object]) -> None:
        """Put what the process has sent, as (time, message). Does not wait."""
        if self.is_closed or not self._receiving.acquire(blocking=False):
            return  # who reads puts it in the inbox
        logged: list[tuple[float, messages.Message]] = []
        try:
            while (batch := self._link.receive()) is not None:
                for item in batch:
                    kind = item[1][0]
                    if kind not in _OURS:
                        put(item)
                    elif kind == messages.REPLY:
                        self.reply(*item[1][1:])
                    elif kind == messages.REPLY_ERROR:
                        self.reply_error(*item[1][1:])
                    else:
                        logged.append(item)
        except LinkClosed:
            self.is_closed = True
        finally:
            self._receiving.release()
        for when, message in logged:  # a handler of the user's may ask the process
            _log_here(when, *message[1:])

    def _flush(self) -> None:
        with self._sending:
            try:
                while not self._link.flush():
                    if not _wait_writable(self._link.fileno(), _SEND_TIMEOUT):
                        log.error("the network process takes no messages, and is ended")
                        self.is_closed = True
                        self._kill()
                        return
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
                with contextlib.suppress(ValueError):  # closed meanwhile
                    wait_readable(self._link.fileno(), min(left, _GLANCE))
                self.pump(self._inbox.put)
        return future.result()


def _wait_writable(fd: int, timeout: float) -> bool:
    """Whether `fd` takes something, or is at its end, within `timeout` seconds."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(timeout * 1000))


def _log_here(when: float, name: str, level: int, text: str) -> None:
    """Log what the process has logged, with the time at which it did."""
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        record = logger.makeRecord(name, level, "", 0, text, (), None)
        record.created = time() - (monotonic() - when)
        logger.handle(record)


class NetworkProcess(Network):
    """The process: a fresh interpreter, which ends with this one."""

    bridge: ProcessBridge

    def __init__(
        self,
        number: int,
        inbox: Inbox,
        uninterrupted: Callable[[], AbstractContextManager[None]],
        on_end: Callable[[NetworkProcess], None],
    ) -> None:
        """Start it, and return when it serves.

        Args:
            number: of this process among all that were started, from 1.
            inbox: where its messages go.
            uninterrupted: see `ProcessBridge`.
            on_end: called in a thread of its own when it ends unasked.

        Raises:
            NetworkError: it does not start.
        """
        self.number = number
        self._inbox = inbox
        self._on_end = on_end
        self._is_stopping = False
        self._directory = _make_directory()
        try:
            ours, theirs = socket_pair()
            with theirs:
                fds = [theirs.fileno(), inbox.wake.share(), inbox.bell.share()]
                self._process = _spawn(fds, number << _IDS, self._directory)
        except (OSError, NotImplementedError) as error:
            self._remove_directory()
            raise NetworkError(f"the network process cannot be started: {error}") from error
        self.bridge = ProcessBridge(inbox, Link(ours), uninterrupted, self._process.kill)
        inbox.bell.log_level = log.getEffectiveLevel()
        self._await_ready()
        inbox.bridges.append(self.bridge)
        inbox.nudge()  # the reader may sleep, having heard of no bridge
        threading.Thread(target=self._watch, name="httpuv-process", daemon=True).start()

    def _await_ready(self) -> None:
        ready: Future[None] = Future()
        self.bridge._calls[0] = ready
        try:
            self.bridge._wait(ready, _START_TIMEOUT)
        except BaseException as error:
            self._process.kill()
            self._process.wait()
            self.bridge.close()
            self._remove_directory()
            if isinstance(error, (NetworkError, TimeoutError)):
                raise NetworkError(f"the network process does not start: {self.end}") from error
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it runs, and is to."""
        return not self.bridge.is_closed and self._process.poll() is None

    @property
    def end(self) -> str:
        """How it ended, as text."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"killed by signal {-code}, {signal.strsignal(-code)}"
        return f"exit code {code}"

    def stop(self) -> None:
        """Ask it to end, and see to it that it does. What it sent is still in the inbox then."""
        self._is_stopping = True
        try:
            if self.is_alive:
                with contextlib.suppress(NetworkError):  # then it is killed
                    self.bridge.ask(messages.QUIT, timeout=JOIN_TIMEOUT)
            self.bridge.pump(self._inbox.put)
        finally:
            self.bridge.close()
            with contextlib.suppress(ValueError):
                self._inbox.bridges.remove(self.bridge)
            try:
                self._process.wait(JOIN_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._remove_directory()

    def forget_in_child(self) -> None:
        """In a forked child: the process is the parent's."""
        self._process.returncode = 0  # nobody is to wait for it
        self.bridge.forget_in_child()

    def _watch(self) -> None:
        self._process.wait()
        if not self._is_stopping:
            self._on_end(self)

    def _remove_directory(self) -> None:
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)


def _make_directory() -> str:
    """Where the process spools; "" where it cannot."""
    try:
        return tempfile.mkdtemp(prefix="httpuv-")
    except OSError:
        return ""


def _spawn(fds: list[int], first_id: int, directory: str) -> subprocess.Popen[bytes]:
    """Start the interpreter with copies of these descriptors.

    Raises:
        OSError: the system refused.
    """
    import fcntl

    # Not below 3, where a program that has closed its own would have them overwritten.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in fds]
    paths = [path for path in sys.path if isinstance(path, str)]
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _BOOT, _PACKAGE, *map(str, copies), str(first_id)]
            + [directory, *paths],
            stdin=subprocess.DEVNULL,
            pass_fds=copies,
            # From 3.11 on it is not in the path at all: where it is gone, 3.13.0 fails to import.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # a terminal's Ctrl-C is not for it
        )
    finally:
        for copy in copies:
            os.close(copy)
