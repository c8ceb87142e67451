"""The WebSocket clients: raw sockets and epoll, since a client library would be slower than the
servers. Loopback only.

Measured against a server in C on the other core: 199,000 echoes/s over 32 sockets, four times what
the quickest server here does; 260,000 messages/s to 1,000 sockets, where both cores are busy.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import zlib
from collections.abc import Iterator
from time import perf_counter

from .load import LoadError, connect

_ECHO = b"x" * 64
_TIMEOUT = 30.0
_PIECE = 1 << 16

_FIN, _COMPRESSED, _TEXT, _CLOSE = 0x80, 0x40, 1, 8
_NORMAL_CLOSURE = (1000).to_bytes(2, "big")
# What browsers offer.
_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def echo_rate(port: int, path: str, connections: int, seconds: float) -> float:
    """Echoes of 64 bytes of text in a second; each socket sends its next when it has its last."""
    with open_sockets(port, path, connections) as clients:
        return _echo_rate([client.fileno() for client in clients], seconds)


def _echo_rate(clients: list[int], seconds: float) -> float:
    request, size = _frame(_ECHO), 2 + len(_ECHO)
    missing = dict.fromkeys(clients, size)
    with _poller(clients) as poller:
        for client in clients:
            os.write(client, request)
        waiting, count, begin = len(clients), 0, perf_counter()
        end = begin + seconds
        while waiting:
            ready = _ready(poller)
            go_on = perf_counter() < end
            for client in ready:
                missing[client] -= _skip(client, missing[client])
                if missing[client]:
                    continue
                missing[client] = size
                count += 1
                if go_on:
                    os.write(client, request)
                else:
                    waiting -= 1
        return count / (perf_counter() - begin)


def fan_out_rate(
    port: int, path: str, connections: int, how: str, deflate: bool, seconds: float
) -> float:
    """Messages that reach all clients together in a second.

    The first client asks the app to send one to all in this way, and again when all have it.
    """
    with open_sockets(port, path, connections, deflate, echo=False) as clients:
        request = _frame(how.encode())
        clients[0].sendall(request)
        frames = {_read_frame(client) for client in clients}
        if len(frames) != 1:
            raise LoadError(f"{how}: the clients got different messages")
        frame = frames.pop()
        if bool(frame[0] & _COMPRESSED) is not deflate:
            raise LoadError(f"{how}: the message is not compressed as was agreed")
        count, begin = 0, perf_counter()
        with _poller([client.fileno() for client in clients]) as poller:
            while perf_counter() < begin + seconds:
                clients[0].sendall(request)
                missing = len(frame) * len(clients)
                while missing:
                    missing -= sum(_skip(client, _PIECE) for client in _ready(poller))
                count += len(clients)
        return count / (perf_counter() - begin)


@contextlib.contextmanager
def open_sockets(
    port: int, path: str, count: int, deflate: bool = False, echo: bool = True
) -> Iterator[list[socket.socket]]:
    """WebSockets, at first each with one echo; closed in the end as the protocol wants it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(count)]
        for client in clients:
            _upgrade(client, path, deflate)
            if echo:
                _check_echo(client, deflate)
        yield clients
        for client in clients:
            client.sendall(_frame(_NORMAL_CLOSURE, _CLOSE))
        for client in clients:
            while client.recv(_PIECE):
                pass


def _upgrade(client: socket.socket, path: str, deflate: bool) -> None:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *([_DEFLATE] if deflate else []),
    ]
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = client.recv(_PIECE)
        if not more:
            raise LoadError(f"the connection was closed after {head!r}")
        head += more
    if b" 101 " not in head[:20] or (b"permessage-deflate" in head) is not deflate:
        raise LoadError(f"{path}: {head[:500]!r}")


def _check_echo(client: socket.socket, deflate: bool) -> None:
    """A server that answers with something else, however quickly, is not measured."""
    data = _deflated(_ECHO) if deflate else _ECHO
    client.sendall(_frame(data, _TEXT | _COMPRESSED * deflate))
    frame = _read_frame(client)
    got = _inflated(frame[2:]) if frame[0] & _COMPRESSED else frame[2:]
    if got != _ECHO:
        raise LoadError(f"{got!r} is not the echo of {_ECHO!r}")


def _frame(data: bytes, kind: int = _TEXT) -> bytes:
    """A client's frame of less than 126 bytes, in one piece (RFC 6455, section 5.2)."""
    key = os.urandom(4)
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(data))
    return bytes([_FIN | kind, 0x80 | len(data)]) + key + masked


def _read_frame(client: socket.socket) -> bytes:
    """A server's frame of less than 64 KiB."""
    frame = _read(client, 2)
    length = frame[1]
    if length == 126:
        frame += _read(client, 2)
        length = int.from_bytes(frame[2:], "big")
    return frame + _read(client, length)


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise LoadError("a socket was closed")
        data += more
    return data


def _deflated(data: bytes) -> bytes:
    """A compressed message's bytes (RFC 7692, section 7.2.1)."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")


@contextlib.contextmanager
def _poller(clients: list[int]) -> Iterator[select.epoll]:
    with select.epoll() as poller:
        for client in clients:
            poller.register(client, select.EPOLLIN)
        yield poller


def _ready(poller: select.epoll) -> list[int]:
    ready = poller.poll(_TIMEOUT)
    if not ready:
        raise LoadError(f"no answer within {_TIMEOUT:g} s")
    return [client for client, _ in ready]


def _skip(client: int, most: int) -> int:
    """Read what has come, up to so many bytes; returns how many."""
    got = len(os.read(client, most))
    if not got:
        raise LoadError("a socket was closed")
    return got
