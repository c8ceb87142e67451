"""Where the two sides meet: bridge, network thread, main loop, and the servers that run.

One `Runtime` for the process, made when it is first needed. A network side is started by the first
server and stopped with the last.

Main side.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import sys
import threading
from collections import deque
from time import monotonic
from typing import Any, NamedTuple

from .. import messages
from ..config import HTTPUV
from ..errors import NetworkError
from ..hosts import Host, find_host
from ..memory import reuse_freed_blocks
from .exchange import AppServer, Exchanges
from .loop import MainLoop
from .networks import Network, ThreadNetwork
from .process import Inbox, NetworkProcess, process_of
from .websocket import Sockets

__all__ = ["Runtime", "close_runtime", "get_runtime", "running_runtime", "runtime_here"]

log = logging.getLogger("httpuv_kernel")

_STOP_TIMEOUT = 10.0  # for the port to be free, once all is sent
_MOST_RESTARTS = 5  # of the network process, in a minute


class Listening(NamedTuple):
    """How a server was started, so that it can be again."""

    isolation: str
    place: messages.Place
    settings: messages.Settings


class Runtime:
    """The two sides of this process. Any thread, if nothing else is said."""

    def __init__(self, host: Host) -> None:
        reuse_freed_blocks()
        self.inbox = Inbox()
        self.servers: dict[int, AppServer] = {}
        self.loop = MainLoop(host, self.inbox)
        self.exchanges = Exchanges(self.loop, self.servers)
        self.sockets = Sockets(self.loop, self.servers)
        self.loop.handlers[messages.STOPPED] = self._on_stopped
        self.loop.handlers[messages.NETWORK_GONE] = self._on_network_gone
        self._networks: dict[str, Network] = {}
        self._listening: dict[int, Listening] = {}
        self._lock = threading.RLock()  # guards both, and starting and stopping
        self._switch_interval: float | None = None
        self._server_ids = itertools.count(1)
        self._ends: deque[float] = deque(maxlen=_MOST_RESTARTS + 1)

    def add_server(
        self, server: AppServer, place: messages.Place, settings: messages.Settings, isolation: str
    ) -> tuple[int, int]:
        """Have a network side listen; returns the server's id and its port, 0 for a Unix socket.

        Raises:
            OSError: the system refused.
            NetworkError: the network side cannot be started.
        """
        number = next(self._server_ids)
        with self._lock:
            server.queue = self.loop.queue_here
            try:
                port = self._listen(number, server, place, settings, isolation)
            except BaseException:
                self.servers.pop(number, None)
                self._stop_unused_networks()
                raise
            self._listening[number] = Listening(isolation, _bound(place, port), settings)
        return number, port

    def _listen(
        self,
        number: int,
        server: AppServer,
        place: messages.Place,
        settings: messages.Settings,
        isolation: str,
        *,
        again: bool = True,
    ) -> int:
        network = self._start_network(isolation)
        server.network = network.bridge
        self.servers[number] = server  # before the first request can come
        try:
            port: int = network.bridge.ask(messages.LISTEN, number, place, tuple(settings))
        except NetworkError:
            if network.is_alive or not again:
                raise
            return self._listen(number, server, place, settings, isolation, again=False)
        except BaseException:
            late = (messages.STOP, 0, number, 0.0, True)  # it may listen, all the same
            network.bridge.send(late)
            raise
        return port

    def update_server(self, number: int, **settings: Any) -> None:
        """Change what `add_server` was given, for when its network side is started again."""
        with self._lock:
            was = self._listening.get(number)
            if was is not None:
                changed = was.settings._replace(**settings)
                self._listening[number] = was._replace(settings=changed)

    def remove_server(self, number: int, timeout: float | None = None) -> None:
        """Close a server's connections and free its port; see `Server.stop`.

        Requests that wait for the main thread are not waited for in it. Who calls this meanwhile
        returns when it is done; the second call does nothing.
        """
        with self._lock:
            server = self.servers.get(number)
            if server is None:
                return
            isolation, _, settings = self._listening[number]
            if timeout is None:
                timeout = messages.Limits(*settings.limits).stop_timeout
            alone = threading.current_thread() is threading.main_thread()
            network = self._networks.get(isolation)
            try:
                if network is not None and network.is_alive:
                    wait = _STOP_TIMEOUT + timeout
                    server.network.ask(messages.STOP, number, timeout, alone, timeout=wait)
            except NetworkError:
                if network is not None and network.is_alive:
                    raise
            finally:
                # Not before: those whose requests are still answered need it.
                self.servers.pop(number, None)
                self._listening.pop(number, None)
                self._stop_unused_networks()
                server.stopped()

    def _on_stopped(self, when: float, number: int) -> None:
        self.loop.queue.push(when, self.remove_server, number)

    # -- network sides -----------------------------------------------------------------------------

    def _start_network(self, isolation: str) -> Network:
        network = self._networks.get(isolation)
        if isinstance(network, NetworkProcess) and not network.is_alive:
            self._replace(network)  # before the one that watches it does
            network = self._networks.get(isolation)
        if network is not None and network.is_alive:
            return network
        if isolation == "process":
            network = NetworkProcess(
                next(_process_numbers), self.inbox, self.loop.uninterrupted, self._on_process_end
            )
        else:
            network = ThreadNetwork(self.inbox)
            self._lower_switch_interval()
        self._networks[isolation] = network
        self.loop.networks[:] = [each.bridge for each in self._networks.values()]
        return network

    def _stop_unused_networks(self) -> None:
        used = {listening.isolation for listening in self._listening.values()}
        for isolation in self._networks.keys() - used:
            network = self._networks.pop(isolation)
            self.loop.networks[:] = [each.bridge for each in self._networks.values()]
            if isolation == "thread":
                self._restore_switch_interval()
            network.stop()
            self.inbox.nudge()  # what still waits is timed from here on

    def _lower_switch_interval(self) -> None:
        interval = HTTPUV.instance().switch_interval
        if interval > 0:
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(interval)

    def _restore_switch_interval(self) -> None:
        if self._switch_interval is not None:
            sys.setswitchinterval(self._switch_interval)
            self._switch_interval = None

    def _on_process_end(self, ended: NetworkProcess) -> None:
        """The network process was killed: begin anew, also while a cell runs. Its own thread."""
        with self._lock:
            if self._networks.get("process") is ended:
                self._replace(ended)

    def _replace(self, ended: NetworkProcess) -> None:
        del self._networks["process"]
        self.loop.networks[:] = [each.bridge for each in self._networks.values()]
        ended.stop()
        self.inbox.put((monotonic(), (messages.NETWORK_GONE, ended.number)))
        log.error("the network process has ended (%s)", ended.end)
        servers = [n for n, each in self._listening.items() if each.isolation == "process"]
        if servers:
            try:
                network = self._start_again()
            except NetworkError as error:
                log.error("%d of its servers are stopped: %s", len(servers), error)
                for each in servers:
                    self.inbox.put((monotonic(), (messages.STOPPED, each)))
            else:
                for each in servers:
                    self._listen_again(each, network)
        self.inbox.nudge()  # what still waits is timed from here on

    def _start_again(self) -> Network:
        """Raises NetworkError when a network process is not to be started again."""
        while True:
            if not HTTPUV.instance().restart_network:
                raise NetworkError("HTTPUV.restart_network is off")
            self._ends.append(monotonic())
            if len(self._ends) > _MOST_RESTARTS and self._ends[0] > monotonic() - 60:
                self._ends.clear()
                raise NetworkError(f"it has ended {_MOST_RESTARTS + 1} times within a minute")
            try:
                return self._start_network("process")
            except NetworkError as error:  # killed again meanwhile, most likely
                log.error("%s", error)

    def _listen_again(self, number: int, network: Network) -> None:
        _, place, settings = self._listening[number]
        self.servers[number].network = network.bridge
        try:
            settings = settings._replace(published=self.servers[number].published())
            network.bridge.ask(messages.LISTEN, number, place, tuple(settings))
        except (OSError, NetworkError) as error:
            log.error("%r cannot listen again: %s", self.servers[number], error)
            self.inbox.put((monotonic(), (messages.STOPPED, number)))

    def _on_network_gone(self, when: float, number: int) -> None:
        self.exchanges.abandon(lambda exchange: process_of(exchange) == number)
        self.sockets.abandon(when, lambda handle: process_of(handle) == number)

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop every server and let go of the host."""
        for number in list(self.servers):
            self.remove_server(number, 0.0)
        self.exchanges.abandon(lambda exchange: True)
        self.loop.close()
        self.inbox.close()

    def forget_in_child(self) -> None:
        """In a forked child: the parent's sockets must not be held open, nor its loop touched."""
        for network in self._networks.values():
            network.forget_in_child()
        self.inbox.close()
        self.servers.clear()


def _bound(place: messages.Place, port: int) -> messages.Place:
    """The place with the port that the system chose."""
    if place[0] != messages.TCP:
        return place
    return (messages.TCP, [(host, port) for host, _ in place[1]])


_process_numbers = itertools.count(1)
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
