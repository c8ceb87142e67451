"""The clients: wrk, and raw sockets where wrk would be the slower side. Loopback only."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter

from .machine import which

_TIMEOUT = 30.0
_PIECE = 1 << 18
_SCRIPT = Path(__file__).with_name("summary.lua")


class LoadError(Exception):
    """A client that did not get what it came for."""


@dataclass(frozen=True)
class Load:
    """What wrk saw: responses and bytes in a second, latencies in µs, and what went wrong."""

    rate: float
    bytes_rate: float
    p50: float
    p99: float
    socket_errors: int
    status_errors: int


def wrk(url: str, connections: int, seconds: int, *more: str) -> Load:
    """Closed-loop: each connection sends its next request when it has the response.

    `more`: CLOSE, or arguments of summary.lua.
    """
    with start_wrk(url, connections, seconds, *more) as child:
        return finish_wrk(child, seconds)


CLOSE = "Connection: close"
"""Each request has a connection of its own."""


@contextlib.contextmanager
def start_wrk(
    url: str, connections: int, seconds: int, *more: str
) -> Iterator[subprocess.Popen[str]]:
    """A flood in the background, ended with this if not before."""
    program = which("wrk")
    if program is None:
        raise LoadError("wrk is not installed: run benchmarks/setup.sh as root")
    fields = ["-H", CLOSE] if CLOSE in more else []
    child = subprocess.Popen(
        [program, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={int(_TIMEOUT)}s",
         "-s", str(_SCRIPT), *fields, url, "--", *(word for word in more if word != CLOSE)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def finish_wrk(child: subprocess.Popen[str], seconds: int) -> Load:
    """Wait for the end of a flood that was started for so many seconds."""
    output, _ = child.communicate(timeout=seconds + _TIMEOUT)
    for line in output.splitlines():
        name, *figures = line.split()[:7] or [""]
        if name == "SUMMARY":
            return _load(*map(float, figures))
    raise LoadError(f"wrk gave no figures:\n{output}")


def _load(
    rate: float, bytes_rate: float, p50: float, p99: float, sockets: float, status: float
) -> Load:
    return Load(rate, bytes_rate, p50, p99, int(sockets), int(status))


def check(port: int, path: str, size: int) -> None:
    """A server that answers with something else, however quickly, is not measured."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        got = len(response.read())
    finally:
        connection.close()
    if response.status != 200 or got != size:
        raise LoadError(f"{path}: {response.status} with {got} bytes, not 200 with {size}")


def warm_up(port: int, path: str, seconds: float = 0.3) -> None:
    """Requests one after another, until caches are filled and bytecode is specialised."""
    end = monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        while monotonic() < end:
            connection.request("GET", path)
            # R's httpuv hangs up now and then; the measurement itself counts such errors.
            with contextlib.suppress(http.client.RemoteDisconnected):
                connection.getresponse().read()
    finally:
        connection.close()


def download_rate(port: int, path: str, size: int, seconds: float) -> float:
    """Bytes in a second, of whole downloads one after another.

    A raw reader with a large buffer: wrk reads 8 KiB at a time, which then is what is measured.
    """
    begin, count = perf_counter(), 0
    while count == 0 or perf_counter() - begin < seconds:
        got = download(port, path)
        if got != size:
            raise LoadError(f"{path}: a body of {got} bytes, not {size}")
        count += 1
    return count * size / (perf_counter() - begin)


def download(port: int, path: str) -> int:
    """GET a body, throw it away, and return its length."""
    with connect(port) as client:
        client.sendall(_request("GET", path, "Connection: close"))
        buffer = bytearray(_PIECE)
        _, rest, length = read_head(client)
        got = len(rest)
        while got < length and (n := client.recv_into(buffer)):
            got += n
        return got


def get_all(port: int, paths: list[str]) -> None:
    """GET them all over one connection, a hundred at a time; each must answer 200."""
    with connect(port) as client:
        data = b""
        for start in range(0, len(paths), 100):
            batch = paths[start : start + 100]
            client.sendall(b"".join(_request("GET", path) for path in batch))
            for path in batch:
                data = _skip_response(client, data, path)


def _skip_response(client: socket.socket, data: bytes, path: str) -> bytes:
    """Read one response; returns what was read beyond it."""
    while b"\r\n\r\n" not in data:
        data += client.recv(_PIECE)
    head, _, rest = data.partition(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        raise LoadError(f"{path}: {head[:200]!r}")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(rest) < length:
        rest += client.recv(_PIECE)
    return rest[length:]


def upload(port: int, path: str, size: int) -> bytes:
    """POST zeros and return the response's body."""
    with connect(port) as client:
        client.sendall(_request("POST", path, f"Content-Length: {size}"))
        piece = bytes(_PIECE)
        for start in range(0, size, _PIECE):
            client.sendall(piece[: size - start])
        _, body, length = read_head(client)
        while len(body) < length and (more := client.recv(_PIECE)):
            body += more
        return body


@contextlib.contextmanager
def idle_connections(port: int, path: str, count: int) -> Iterator[None]:
    """Connections that have each had one response and are kept alive."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(connect(port))
            client.sendall(_request("GET", path))
            _, body, length = read_head(client)
            while len(body) < length:
                body += client.recv(_PIECE)
        yield


def connect(port: int) -> socket.socket:
    """A connection that gives up after a while."""
    return socket.create_connection(("127.0.0.1", port), _TIMEOUT)


def _request(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


def read_head(client: socket.socket) -> tuple[int, bytes, int]:
    """Bytes of a response's head, what came of the body with it, and how long the body is."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(_PIECE)
        if not more:
            raise LoadError(f"the connection was closed after {data!r}")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    if status.split()[1] != "200":
        raise LoadError(f"{status}\n{rest[:500].decode('latin-1')}")
    lengths = [f.partition(":")[2] for f in fields if f.lower().startswith("content-length:")]
    return len(head) + 4, rest, int(lengths[0])
