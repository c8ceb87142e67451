"""Starts and stops the peers, each on the server's core and on a free port of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from .machine import httpuv_version, server_core, which

_START_SECONDS = 30
_STOP_SECONDS = 5
_HERE = Path(__file__).parent

OURS = "httpuv_kernel"
IN_PROCESS = "in a process"
"""Ours, with isolation="process"."""
UVICORN = "uvicorn"
TORNADO = "Tornado"
AIOHTTP = "aiohttp"
NGINX = "nginx"
HTTP_SERVER = "http.server"
HTTPUV_R = "R httpuv"
WEBSOCKETS = "websockets"


class ServerError(Exception):
    """A server that did not start."""


@dataclass(frozen=True)
class Target:
    """A server to measure."""

    name: str
    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def make_site(root: Path, sizes: dict[str, int]) -> Path:
    """A directory with static/NAME of each size, random so that nobody gains by packing them."""
    (root / "static").mkdir(parents=True)
    for name, size in sizes.items():
        with open(root / "static" / name, "wb") as file:
            piece = os.urandom(min(size, 1 << 20))
            for start in range(0, size, len(piece)):
                file.write(piece[: size - start])
    return root


def available(names: tuple[str, ...]) -> list[str]:
    """Those of the peers that this machine has."""
    found = {NGINX: bool(which("nginx")), HTTPUV_R: HTTPUV_R in names and bool(httpuv_version())}
    return [name for name in names if found.get(name, True)]


@contextlib.contextmanager
def start_peers(names: list[str], site: Path) -> Iterator[list[Target]]:
    """All of them at once: each waits, idle, while another is measured."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(start_peer(name, site)) for name in names]


@contextlib.contextmanager
def start_peer(name: str, site: Path) -> Iterator[Target]:
    port = _free_port()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as work,
        _process(_COMMANDS[name](port, site, Path(work)), port, Path(work) / "errors"),
    ):
        yield Target(name, port)


def _python(name: str) -> Callable[[int, Path, Path], list[str]]:
    def command(port: int, site: Path, work: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.peers.python", name, str(port), str(site)]

    return command


def _http_server(port: int, site: Path, work: Path) -> list[str]:
    where = ["--bind", "127.0.0.1", "--directory", str(site)]
    return [sys.executable, "-m", "http.server", str(port), *where]


def _httpuv(port: int, site: Path, work: Path) -> list[str]:
    return [str(which("Rscript")), str(_HERE / "peers" / "httpuv.R"), str(port), str(site)]


def _nginx(port: int, site: Path, work: Path) -> list[str]:
    """One worker; keepalive_requests only so that it need not accept again after each 1,000."""
    temporary = "".join(
        f"{kind}_temp_path {work}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root, workers would run as a user who may not read the site.
    user = "user root;" if os.geteuid() == 0 else ""
    (work / "nginx.conf").write_text(
        f"""{user}
worker_processes 1;
daemon off;
pid {work}/pid;
error_log {work}/errors error;
events {{ worker_connections 2048; }}
http {{
{temporary}
access_log off;
sendfile on;
keepalive_requests 100000000;
server {{ listen 127.0.0.1:{port}; root {site}; }}
}}
"""
    )
    nginx = str(which("nginx"))
    return [nginx, "-p", str(work), "-e", str(work / "errors"), "-c", str(work / "nginx.conf")]


_COMMANDS: dict[str, Callable[[int, Path, Path], list[str]]] = {
    UVICORN: _python("uvicorn"),
    TORNADO: _python("tornado"),
    AIOHTTP: _python("aiohttp"),
    NGINX: _nginx,
    HTTP_SERVER: _http_server,
    HTTPUV_R: _httpuv,
    WEBSOCKETS: _python("websockets"),
}


@contextlib.contextmanager
def _process(command: list[str], port: int, errors: Path) -> Iterator[None]:
    """A child that listens at the port, in a process group of its own, ended with this."""
    with open(errors, "ab") as log, server_core():
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
            cwd=_HERE.parent, env={**os.environ, "TMPDIR": str(errors.parent)},
            start_new_session=True,
        )  # fmt: skip
    try:
        _await_port(child, port, errors)
        yield
    finally:
        _stop(child)


def _await_port(child: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    end = monotonic() + _START_SECONDS
    while child.poll() is None and monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        sleep(0.02)
    raise ServerError(f"{child.args!r} did not start: {errors.read_text()[-2000:]}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its group is its session: nobody else is in it.
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(_STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
