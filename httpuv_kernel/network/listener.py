"""One server as the network side knows it: its sockets, its connections, its limits.

Network side.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from ..bridge import NetworkEnd
from ..fields import ResponseHead
from ..messages import STOPPED, Address, Handlers, Limits, Place, ServerStatus, Settings
from ..static_paths import StaticTable
from .binding import Binding, bind
from .exchange import Exchange, Reply
from .gate import Gate
from .handshake import asks_for_websocket, upgrade_refusal
from .internal import InternalRoutes
from .journal import Journal, Seldom
from .known import KnownRequests
from .published import Published
from .static import StaticSite

__all__ = ["Listener", "begin_ids_at", "endpoint"]

log = logging.getLogger("httpuv_kernel")

# How many clients may wait in the system's queue while the loop is held up by the GIL.
_BACKLOG = 1024

_ANSWER_TIME = 0.05
_TOLD = 100  # so many clients at once are told that they are too many; the others are cut
_BUSY = "the kernel is busy with a cell; this page tries again by itself"

_exchange_ids = itertools.count(1)


def begin_ids_at(first: int) -> None:
    """Number the exchanges from here on; those of another process are not to meet ours."""
    global _exchange_ids
    _exchange_ids = itertools.count(first)


def endpoint(transport: asyncio.BaseTransport, which: str) -> Address:
    """Host and port of "peername" or "sockname" as str; empty for a Unix socket."""
    name = transport.get_extra_info(which)
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), str(name[1])
    return "", ""


class Client(Protocol):
    """A connection as its listener sees it."""

    @property
    def unsent(self) -> int:
        """Bytes of responses that wait for it here; not those that the main side has."""

    def finish(self, *, alone: bool) -> None:
        """Begin nothing more, and close when the response on its way is out.

        `alone`: the main side adds nothing any more.
        """

    def close(self) -> None:
        """Close it once what is written has gone out."""

    def abort(self) -> None:
        """Cut it."""

    def expire(self, now: float) -> None:
        """End what takes too long."""

    def fileno(self) -> int:
        """The descriptor of its socket; -1 when there is none any more."""


class Listener:
    """Accepts clients for one server."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        bridge: NetworkEnd,
        exchanges: dict[int, Any],
    ) -> None:
        self.id = number
        self.loop = loop
        self.bridge = bridge
        self.limits = Limits(*settings.limits)
        self._settings = settings
        self.gate = self._gate(0)
        self.journal = Journal(self.limits.journal_entries, logs=settings.access_log)
        self.internal = InternalRoutes(self, settings.identity, settings.control)
        self.known_requests = KnownRequests(self.limits.header_bytes)
        self.set_app(settings.handlers, settings.static_table)
        self._exchanges = exchanges
        self._waiting: dict[int, float] = {}  # since when
        self.published = Published()
        for path, head, body in settings.published:
            self.published.put(path, ResponseHead(*head), body)
        self._connections: set[Client] = set()
        self._crowd_notes, self._busy_notes = Seldom(), Seldom()
        self._upgraded: set[Client] = set()
        self._bindings: list[Binding] = []
        self.address: Address | None = None
        """Where all of its connections end, if that is known beforehand."""
        self._servers: list[asyncio.AbstractServer] = []
        self._ends = False

    async def listen(self, place: Place, make_connection: Callable[[], asyncio.Protocol]) -> int:
        """Bind, accept clients, and return the port; 0 for a Unix socket.

        Raises:
            OSError: the system refused; nothing is bound then.
        """
        self._bindings = bind(place)
        if len(self._bindings) == 1:
            self.address = self._bindings[0].address
        self.gate = self._gate(self._bindings[0].port)
        try:
            for binding in self._bindings:
                create = (
                    self.loop.create_unix_server
                    if binding.sock.family == getattr(socket, "AF_UNIX", None)
                    else self.loop.create_server
                )
                # asyncio takes this also for how often it tries to accept, and when it is out of
                # descriptors goes on trying: each failure would become a thousand.
                server = await create(make_connection, sock=binding.sock, backlog=1)
                self._servers.append(server)
                binding.sock.listen(_BACKLOG)
        except BaseException:
            for binding in self._bindings:
                binding.release()
            raise
        return self._bindings[0].port

    def _gate(self, port: int) -> Gate:
        """The gate. Names such as a forwarded port's have "{port}" until the port is known."""

        def with_port(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name.replace("{port}", str(port)) for name in names)

        hosts, origins = self._settings.allowed_hosts, self._settings.allowed_origins
        allowed = None if hosts is None else with_port(hosts)
        return Gate(allowed, self._settings.token, with_port(origins))

    async def close(self, timeout: float = 0.0, *, alone: bool = True) -> None:
        """Accept no more and close every connection. Returns when the port is free.

        Args:
            timeout: seconds in which responses on their way may get out.
            alone: the main side waits for this and cannot add to them.
        """
        self._ends = True
        for server in self._servers:
            server.close()
        for binding in self._bindings:
            binding.remove_path()
        for connection in list(self._connections):
            connection.finish(alone=alone or not timeout)
        for _ in range(100):  # the loop closes a listening socket in one of its next turns
            if self._is_closed:
                break
            await asyncio.sleep(0)
        await self._let_out(timeout, alone=alone)
        for connection in list(self._connections):
            connection.close()
        self.site.close()

    async def _let_out(self, timeout: float, *, alone: bool) -> None:
        """Return when every response is out, or as far as it can be, or when the time is over."""
        until = monotonic() + timeout
        while monotonic() < until:
            clients = self._connections - self._upgraded
            if not clients or (alone and not any(client.unsent for client in clients)):
                break
            await asyncio.sleep(0.005)

    def abort_clients(self) -> None:
        """Cut the clients that have not taken what was written to them."""
        for connection in list(self._connections):
            connection.abort()

    @property
    def is_over(self) -> bool:
        """Closed, and every client gone."""
        return not self._connections and self._is_closed

    @property
    def _is_closed(self) -> bool:
        return all(binding.sock.fileno() == -1 for binding in self._bindings)

    def expire(self, now: float) -> None:
        """End the connections that take too long, and let go of what nobody has asked for."""
        for connection in list(self._connections):
            connection.expire(now)
        self.site.rest()
        if self.limits.busy_timeout > 0:
            for number, since in list(self._waiting.items()):
                if now - since >= self.limits.busy_timeout:
                    self._exchanges[number].fail(503, _BUSY)

    def close_descriptors(self) -> None:
        """In a forked child: let go of the parent's sockets without touching its loop."""
        sockets = [binding.sock.fileno() for binding in self._bindings]
        for fd in sockets + [connection.fileno() for connection in self._connections]:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.site.close()

    def set_app(self, handlers: tuple[bool, bool, bool], table: tuple[Any, ...]) -> None:
        """Serve with these handlers and static paths from the next request on."""
        self.handlers = Handlers(*handlers)
        self.site = StaticSite(StaticTable.from_plain(table), self.limits.gzip_bytes)

    # -- what pages of the notebook need ---------------------------------------------------------

    def status(self) -> ServerStatus:
        """Figures to show."""
        connections = len(self._connections)
        waiting, sockets = len(self._waiting), len(self._upgraded)
        return ServerStatus(self.journal.requests, waiting, connections, sockets)

    def stop_by_page(self) -> None:
        """Close, once the page has its answer; the main side may be busy and hears of it later."""
        self.bridge.post((STOPPED, self.id))
        self.loop.call_later(_ANSWER_TIME, self._close_soon)

    def _close_soon(self) -> None:
        # The loop has a weak reference only.
        self._closing = self.loop.create_task(self.close(self.limits.stop_timeout))

    # -- what connections need -----------------------------------------------------------------

    def admit(self, connection: Client) -> bool:
        """Count a client in; False when there are too many, or it came while the server ended."""
        self._connections.add(connection)
        if self._ends:
            return False
        log.debug("a client is here; %d are", len(self._connections))
        if len(self._connections) <= self.limits.connections:
            return True
        if self._crowd_notes.is_due():
            log.warning("refused a client: %d connections are open", self.limits.connections)
        return False

    @property
    def is_flooded(self) -> bool:
        """Whether so many clients are refused that to say so would take too many descriptors."""
        return len(self._connections) > self.limits.connections + _TOLD

    def replace(self, connection: Client, successor: Client, number: int) -> None:
        """The client goes on in another protocol; so does what has this id."""
        self._connections.discard(connection)
        self._connections.add(successor)
        self._upgraded.add(successor)
        self._exchanges[number] = successor
        self._waiting.pop(number, None)

    def dismiss(self, connection: Client, error: Exception | None = None) -> None:
        """The client is gone; with an error it vanished, which is its own affair."""
        self._connections.discard(connection)
        self._upgraded.discard(connection)
        log.debug("a client is gone (%s); %d are left", error or "closed", len(self._connections))

    def answer(self, exchange: Exchange) -> Reply | None:
        """What this side answers, or refuses to upgrade; None for what is the app's."""
        reply = self.internal.answer(exchange) if exchange.facts.is_internal else None
        if reply is None and self.published:
            reply = self.published.answer(exchange)
        if reply is None and self.site.table.has_paths:
            reply = self.site.answer(exchange)
        if reply is None and asks_for_websocket(exchange):
            compress, known = self.limits.compress_messages, self.handlers.on_ws_open
            reply = upgrade_refusal(exchange, self.gate, known, compress=compress)
        return reply

    def register(self, connection: Client) -> int:
        """An id for a request that the main side is to answer; 0 when too many wait for it."""
        if len(self._waiting) >= self.limits.pending:
            if self._busy_notes.is_due():
                log.warning("refused a request: %d wait for the kernel", len(self._waiting))
            return 0
        number = next(_exchange_ids)
        self._exchanges[number] = connection
        self._waiting[number] = monotonic()
        return number

    def begun(self, exchange: int) -> None:
        """The main side has begun to answer; the request waits no longer."""
        self._waiting.pop(exchange, None)

    def forget(self, exchange: int) -> None:
        """The request is answered, or its client gone."""
        self._exchanges.pop(exchange, None)
        self._waiting.pop(exchange, None)
