"""Real ipykernels for the tests: the newest one here, and ipykernel 6 in an environment of its own.

A test module takes its fixtures from `kernel_fixtures`; each test runs in both kernels.
"""

from __future__ import annotations

import ast
import http.client
import os
import re
import signal
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

import pytest
from helpers import wait_until
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

_LAUNCH = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
_KERNELS = ["newest", "ipykernel6"]
_ANSI = re.compile(r"\x1b\[[0-9;]*m")

# What every kernel begins with; check_bridge marshals every message between the two sides.
_SETUP = """
import asyncio, logging, os, signal, sys, threading, time
import httpuv_kernel
from httpuv_kernel import *
from IPython.display import display
HTTPUV.instance().check_bridge = True
HTTPUV.instance().isolation = os.environ.get("HTTPUV_TEST_ISOLATION", "thread")
"""


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    """From before the connection to the last byte."""

    @property
    def text(self) -> str:
        return self.body.decode()


def get(port: int, path: str = "/", timeout: float = 10.0) -> Answer:
    """GET on a connection of its own; TimeoutError when nothing comes for `timeout` seconds."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body, time.monotonic() - begun)


def ask(port: int, path: str = "/", timeout: float = 20.0) -> Future[Answer]:
    """The same in a thread."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(get(port, path, timeout))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Cell:
    """One execution, and all that is or will be published with its message as parent."""

    def __init__(self, kernel: Kernel, id: str) -> None:
        self._kernel = kernel
        self.id = id
        self.reply: dict[str, Any] = {}
        """Content of the execute_reply, once waited for."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self._kernel.published(self.id)

    def contents(self, kind: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    def _stream(self, name: str) -> str:
        return "".join(c["text"] for c in self.contents("stream") if c["name"] == name)

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return _ANSI.sub("", self._stream("stderr"))

    @property
    def displays(self) -> list[dict[str, Any]]:
        """The data of what was displayed, the cell's own value included."""
        shown = self.contents("display_data") + self.contents("execute_result")
        return [content["data"] for content in shown]

    @property
    def error(self) -> str:
        """Every traceback shown, as text."""
        lines = [line for content in self.contents("error") for line in content["traceback"]]
        return _ANSI.sub("", "\n".join(lines))

    @property
    def output(self) -> str:
        """All text of it."""
        shown = [str(data.get("text/plain", "")) for data in self.displays]
        return "\n".join([self.stdout, self.stderr, self.error, *shown])

    @property
    def status(self) -> str:
        return str(self.reply.get("status"))

    def wait_begun(self) -> Cell:
        wait_until(lambda: self.contents("execute_input"), timeout=20)
        return self

    def wait(self, timeout: float = 20.0) -> Cell:
        """Return when it has been replied to and its last output is here."""
        self.reply = self._kernel.wait_reply(self.id, timeout)
        idle = {"execution_state": "idle"}
        wait_until(lambda: idle in self.contents("status"), timeout=timeout)
        return self

    def wait_output(self, text: str, timeout: float = 10.0) -> Cell:
        wait_until(lambda: text in self.output, timeout=timeout)
        return self


class Served(NamedTuple):
    """A server of the kernel, and the cell that started it."""

    port: int
    cell: Cell


class Kernel:
    """A kernel process and a client of it. One thread uses it."""

    def __init__(self, python: str, directory: Path) -> None:
        spec = KernelSpec(argv=[python, *_LAUNCH], display_name="test", language="python")
        self.manager = KernelManager(connection_file=str(directory / "connection.json"))
        self.manager._kernel_spec = spec  # none is installed
        self._directory = directory
        self._published: list[dict[str, Any]] = []
        self._replies: dict[str, dict[str, Any]] = {}
        self._stop = threading.Event()
        self.start()

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        environment = {
            **os.environ,
            "IPYTHONDIR": str(self._directory / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self._log = open(self._directory / "log", "a+")  # noqa: SIM115
        self.manager.start_kernel(
            stdout=self._log, stderr=self._log, env=environment, cwd=str(self._directory)
        )
        self._connect()

    def _connect(self) -> None:
        self._stop = threading.Event()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self._reader = threading.Thread(target=self._read, args=(self._stop,), daemon=True)
        self._reader.start()
        self.run(_SETUP)

    def _disconnect(self) -> None:
        self._stop.set()
        self._reader.join()
        self.client.stop_channels()

    def restart(self) -> None:
        """Shut down, start anew."""
        self._disconnect()
        self.manager.restart_kernel()
        self._connect()

    def close(self) -> None:
        """End the process, whatever state it is in."""
        self._disconnect()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self._log.close()

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)

    @property
    def is_alive(self) -> bool:
        return bool(self.manager.is_alive())

    @property
    def log(self) -> str:
        """What the process itself wrote, cells apart."""
        return (self._directory / "log").read_text()

    @property
    def version(self) -> int:
        """Of ipykernel, the first number."""
        return int(self.value("__import__('ipykernel').version_info[0]"))

    # -- messages --------------------------------------------------------------------------------

    def _read(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(Empty):
                self._published.append(self.client.iopub_channel.get_msg(timeout=0.05))

    @property
    def all_published(self) -> list[dict[str, Any]]:
        """Whatever came, the newest last."""
        return list(self._published)

    def published(self, id: str) -> list[dict[str, Any]]:
        return [m for m in self.all_published if m["parent_header"].get("msg_id") == id]

    def wait_reply(self, id: str, timeout: float, channel: str = "shell") -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        read = getattr(self.client, f"{channel}_channel").get_msg
        while id not in self._replies:
            try:
                message = read(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise TimeoutError(f"no reply within {timeout:g} s") from None
            self._replies[message["parent_header"]["msg_id"]] = message["content"]
        return self._replies[id]

    def control(self, kind: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request on the control channel; its reply."""
        message = self.client.session.msg(kind, content or {})
        self.client.control_channel.send(message)
        return self.wait_reply(message["header"]["msg_id"], 10, "control")

    # -- cells -----------------------------------------------------------------------------------

    def execute_nowait(self, code: str, subshell: str | None = None) -> Cell:
        content = {
            "code": textwrap.dedent(code),
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = self.client.session.msg("execute_request", content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return Cell(self, message["header"]["msg_id"])

    def begin(self, code: str) -> Cell:
        """Start a cell; returns when it runs."""
        return self.execute_nowait(code).wait_begun()

    def execute(self, code: str, timeout: float = 20.0) -> Cell:
        return self.execute_nowait(code).wait(timeout)

    def run(self, code: str, timeout: float = 20.0) -> Cell:
        """Execute what must not fail."""
        cell = self.execute(code, timeout)
        assert cell.status == "ok", cell.error
        return cell

    def value(self, expression: str) -> Any:
        """The value of an expression there, if a literal."""
        cell = self.run(f"print(repr({expression}))")
        return ast.literal_eval(cell.stdout)

    def serve(self, code: str = "", app: str = "app") -> Served:
        """Run a cell that defines an app and starts a server with it."""
        start = f"server = start_server('127.0.0.1', 0, {app})\n"
        cell = self.run(textwrap.dedent(code) + "\n" + start)
        return Served(self.value("server.port"), cell)

    # -- interrupts ------------------------------------------------------------------------------

    def interrupt(self, by: str = "signal") -> None:
        """As the stop button: a signal, or for remote kernels a message."""
        if by == "signal":
            self.manager.interrupt_kernel()
        else:
            assert self.control("interrupt_request")["status"] == "ok"

    def signal(self, number: int = signal.SIGINT) -> None:
        os.kill(self.pid, number)

    @property
    def ignores_sigint(self) -> bool:
        """Whether SIGINT is ignored, as in an idle kernel."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        ignored = re.search(r"^SigIgn:\s*([0-9a-f]+)", status, re.MULTILINE)
        assert ignored is not None
        return bool(int(ignored[1], 16) >> (signal.SIGINT - 1) & 1)

    @property
    def descriptors(self) -> int:
        """How many files and sockets the process has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _python(which: str) -> str:
    if which == "newest":
        return sys.executable
    python = os.environ.get("IPYKERNEL6_PYTHON")
    if python:
        return python
    reason = "IPYKERNEL6_PYTHON names no Python that has ipykernel 6; `make test` sets it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def kernel_fixtures() -> tuple[Any, Any, Any]:
    """Fixtures `shared_kernel, kernel, own_kernel` of a module.

    `kernel` is the module's; after each test its servers are stopped. `own_kernel` is new for each
    test, which may do with it what it likes.
    """

    @pytest.fixture(scope="module", params=_KERNELS)
    def shared_kernel(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Kernel]:
        kernel = Kernel(_python(request.param), tmp_path_factory.mktemp("kernel"))
        yield kernel
        kernel.close()

    @pytest.fixture
    def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
        if not shared_kernel.is_alive:  # an earlier test ended it, and has failed
            shared_kernel.restart()
        yield shared_kernel
        if shared_kernel.is_alive:
            try:
                shared_kernel.execute("stop_all_servers()", timeout=5)
            except TimeoutError:
                shared_kernel.signal(signal.SIGKILL)

    @pytest.fixture(params=_KERNELS)
    def own_kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
        kernel = Kernel(_python(request.param), tmp_path)
        yield kernel
        kernel.close()

    return shared_kernel, kernel, own_kernel
