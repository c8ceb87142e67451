"""Where the two sides meet: bridge, network thread, main loop, and the servers that run.

One `Runtime` for the process, made when it is first needed. A network side is started by the first
server and stopped with the last.

Main side.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import threading

from .. import messages
from ..bridge import Channel
from ..config import HTTPUV
from ..errors import NetworkError
from ..hosts import Host, find_host
from .exchange import AppServer, Exchanges
from .loop import MainLoop
from .networks import Network, ThreadNetwork
from .websocket import Sockets

__all__ = ["Runtime", "close_runtime", "get_runtime", "running_runtime", "runtime_here"]


class Runtime:
    """The two sides of this process. Any thread, if nothing else is said."""

    def __init__(self, host: Host) -> None:
        self.inbox = Channel()
        self.servers: dict[int, AppServer] = {}
        self.loop = MainLoop(host, self.inbox)
        self.exchanges = Exchanges(self.loop, self.servers)
        self.sockets = Sockets(self.loop, self.servers)
        self.loop.handlers[messages.STOPPED] = self._on_stopped
        self._network: Network | None = None
        self._lock = threading.RLock()  # guards _network and its starting and stopping
        self._switch_interval: float | None = None
        self._server_ids = itertools.count(1)

    def add_server(
        self, server: AppServer, place: messages.Place, settings: messages.Settings
    ) -> tuple[int, int]:
        """Have the network side listen; returns the server's id and its port, 0 for a Unix socket.

        Raises:
            OSError: the system refused.
            NetworkError: the network side cannot be started.
        """
        number = next(self._server_ids)
        with self._lock:
            network = self._start_network()
            server.queue = self.loop.queue_here
            server.network = network.bridge
            self.servers[number] = server  # before the first request can come
            try:
                port: int = server.network.ask(messages.LISTEN, number, place, tuple(settings))
            except BaseException:
                del self.servers[number]
                server.network.send((messages.STOP, 0, number))  # it may listen, though late
                self._stop_network_if_unused()
                raise
        return number, port

    def remove_server(self, number: int) -> None:
        """Close a server's connections and free its port. The second call does nothing."""
        with self._lock:
            server = self.servers.pop(number, None)
            if server is None:
                return
            try:
                server.network.ask(messages.STOP, number)
            finally:
                self._stop_network_if_unused()
                server.stopped()

    def _on_stopped(self, when: float, number: int) -> None:
        self.loop.queue.push(when, self.remove_server, number)

    def _start_network(self) -> Network:
        if self._network is not None and self._network.is_alive:
            return self._network
        self._network = network = ThreadNetwork(self.inbox)
        self.loop.networks[:] = [network.bridge]
        interval = HTTPUV.instance().switch_interval
        if interval > 0:
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(interval)
        return network

    def _stop_network_if_unused(self) -> None:
        if self.servers or self._network is None:
            return
        network, self._network = self._network, None
        self.loop.networks.clear()
        if self._switch_interval is not None:
            sys.setswitchinterval(self._switch_interval)
            self._switch_interval = None
        network.stop()
        self.inbox.nudge()  # what still waits is timed from here on

    def close(self) -> None:
        """Stop every server and let go of the host."""
        for number in list(self.servers):
            self.remove_server(number)
        self.exchanges.abandon_all()
        self.loop.close()
        self.inbox.wake.close()

    def forget_in_child(self) -> None:
        """In a forked child: the parent's sockets must not be held open, nor its loop touched."""
        if self._network is not None:
            self._network.forget_in_child()
        self.inbox.wake.close()
        self.servers.clear()


_runtime: Runtime | None = None
_create_lock = threading.Lock()


def get_runtime() -> Runtime:
    """The runtime of this process, made when there is none."""
    global _runtime
    with _create_lock:
        if _runtime is None:
            _runtime = Runtime(find_host())
        return _runtime


def runtime_here() -> Runtime:
    """The runtime, on the host that the process is now; for who starts a server."""
    runtime = get_runtime()
    if threading.current_thread() is threading.main_thread():  # others do not see its loop
        host = find_host()
        if not runtime.loop.host.is_like(host):
            runtime.loop.move_to(host)
    return runtime


def running_runtime() -> Runtime | None:
    """The runtime of this process, if there is one."""
    return _runtime


def close_runtime() -> None:
    """Stop everything and let go of it; the next server makes a new runtime."""
    global _runtime
    runtime, _runtime = _runtime, None
    if runtime is not None:
        runtime.close()


@atexit.register
def _at_exit() -> None:
    with contextlib.suppress(NetworkError):  # held up; its daemon thread ends with the process
        close_runtime()


def _after_fork_in_child() -> None:
    global _runtime, _create_lock
    runtime, _runtime = _runtime, None
    _create_lock = threading.Lock()  # the parent's may have been held
    if runtime is not None:
        runtime.forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
