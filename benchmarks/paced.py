"""Requests at a fixed rate, whatever the server does: what people wait for, not what it could do.

A closed loop asks for nothing while it waits, so a server that stops for a second costs it one slow
response. Here each request has a time at which it is due, and its latency counts from then: a stop
is paid for by all that were due meanwhile (no coordinated omission). Loopback only.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from collections.abc import Iterator
from time import perf_counter

from .load import LoadError, connect, read_head

_PIECE = 1 << 16
_LONGEST = 30.0  # seconds without any response


def paced(port: int, path: str, rate: float, seconds: float, connections: int = 32) -> list[float]:
    """Latencies in seconds of so many requests a second, each on a connection that is free.

    Keeps its core busy: to sleep between two requests would be less exact than the servers.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(connections)]
        poller = stack.enter_context(_poller(clients))
        size = _size_of_response(clients[0], request)
        by_fd = {client.fileno(): client for client in clients}
        free = deque(clients)
        due: dict[int, float] = {}
        missing: dict[int, int] = {}
        latencies: list[float] = []
        count = round(rate * seconds)
        begun, asked = perf_counter(), 0
        heard = begun
        while len(latencies) < count:
            now = perf_counter()
            while free and asked < count and begun + asked / rate <= now:
                client = free.popleft()
                due[client.fileno()], missing[client.fileno()] = begun + asked / rate, size
                client.send(request)
                asked += 1
            for fd, _ in poller.poll(0):
                missing[fd] -= _read(by_fd[fd])
                if not missing[fd]:
                    heard = perf_counter()
                    latencies.append(heard - due[fd])
                    free.append(by_fd[fd])
            if due and now > max(heard, begun) + _LONGEST:
                raise LoadError(f"no response for {_LONGEST:g} s")
        return latencies


@contextlib.contextmanager
def _poller(clients: list[socket.socket]) -> Iterator[select.epoll]:
    with select.epoll() as poller:
        for client in clients:
            poller.register(client, select.EPOLLIN)
        yield poller


def _size_of_response(client: socket.socket, request: bytes) -> int:
    """Bytes of a response with its head; they are all alike."""
    client.sendall(request)
    size, body, length = read_head(client)
    while len(body) < length:
        body += client.recv(_PIECE)
    return size + length


def _read(client: socket.socket) -> int:
    got = len(client.recv(_PIECE))
    if not got:
        raise LoadError("a connection was closed")
    return got
