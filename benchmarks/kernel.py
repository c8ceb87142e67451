"""A real ipykernel on the server's core, started as Jupyter starts it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from time import monotonic, perf_counter
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from . import cells
from .machine import server_core

_START_SECONDS = 60
_CELL_SECONDS = 60
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class CellError(Exception):
    """A cell that had to succeed did not."""


class Kernel:
    """A running kernel.

    Attributes:
        pid: of its process.
        port: of the server that `serve` has started last.
    """

    def __init__(self, client: BlockingKernelClient, site: Path) -> None:
        self._client = client
        self._site = site
        self.port = 0
        pid, executable = self.run(cells.PREPARE).split(maxsplit=1)
        if executable.strip() != sys.executable:
            raise CellError(f"the kernel runs {executable.strip()}, not {sys.executable}")
        self.pid = int(pid)

    def load(self, isolation: str) -> None:
        """Have the package imported; what is started from here on has this isolation."""
        self.run(cells.IMPORT.format(static=str(self._site / "static"), isolation=isolation))

    def serve(self, isolation: str) -> float:
        """Start a server: Hello world at /, files below /static, a WebSocket that sends back what
        comes. Returns the seconds that took.
        """
        self.load(isolation)
        port, seconds = self.run(cells.SERVE).split()
        self.port = int(port)
        return float(seconds)

    def family(self) -> list[int]:
        """Its process, and those of network sides."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def run(self, code: str) -> str:
        """Execute a cell and return what it printed."""
        printed: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self._client.execute_interactive(
            code, store_history=False, allow_stdin=False, timeout=_CELL_SECONDS,
            output_hook=collect,
        )  # fmt: skip
        _check(reply, printed)
        return "".join(printed)

    def time_cell(self, code: str) -> float:
        """Seconds from sending a cell until its reply is here and the kernel says it is idle."""
        begin = perf_counter()
        self.run(code)
        return perf_counter() - begin

    @contextlib.contextmanager
    def running(self, code: str) -> Iterator[list[str]]:
        """While a cell runs that prints something first and ends by itself.

        What it prints after that is in the list, once this is over.
        """
        message_id = self._client.execute(code, store_history=False, allow_stdin=False)
        self._await_output(message_id)
        printed: list[str] = []
        yield printed
        with contextlib.suppress(Empty):
            self._client.get_shell_msg(timeout=0)
            raise CellError("the cell ended before what was to happen beside it")
        while True:
            reply = self._client.get_shell_msg(timeout=_CELL_SECONDS)
            if reply["parent_header"].get("msg_id") == message_id:
                _check(reply, [])
                break
        while (text := self._output_of(message_id)) is not None:
            printed.append(text)

    def _output_of(self, message_id: str) -> str | None:
        """The next that a cell printed, "" for another message; None when it is over."""
        message = self._client.get_iopub_msg(timeout=_CELL_SECONDS)
        content = message["content"]
        if message["parent_header"].get("msg_id") != message_id:
            return ""
        if content.get("execution_state") == "idle":
            return None
        return str(content["text"]) if message["msg_type"] == "stream" else ""

    def _await_output(self, message_id: str) -> None:
        end = monotonic() + _CELL_SECONDS
        while monotonic() < end:
            with contextlib.suppress(Empty):
                if self._output_of(message_id):
                    return
        raise CellError("the cell printed nothing")


@contextlib.contextmanager
def start_kernel(
    site: Path, isolation: str | None = "thread", *, both_cores: bool = False
) -> Iterator[Kernel]:
    """A kernel with a server, for as long as this lasts; None: without one as yet."""
    # No profile, history or start-up file of the user takes part, and nothing is left behind.
    environment = {**os.environ, "IPYTHONDIR": str(site / "ipython"), "TMPDIR": str(site)}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # a cell that computes takes one core
    manager = KernelManager()
    log = site / "kernel.log"
    with open(log, "wb") as file, server_core(both=both_cores):
        manager.start_kernel(env=environment, stdout=file, stderr=file)
    client = manager.blocking_client()
    try:
        client.start_channels()
        _await_ready(client, log)
        kernel = Kernel(client, site)
        if isolation is not None:
            kernel.serve(isolation)
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def _await_ready(client: BlockingKernelClient, log: Path) -> None:
    try:
        client.wait_for_ready(timeout=_START_SECONDS)
    except RuntimeError as error:
        raise CellError(f"{error}\n{log.read_text()[-2000:]}") from error


def _check(reply: dict[str, Any], printed: list[str]) -> None:
    content = reply["content"]
    if content["status"] != "ok":
        traceback = _COLOUR.sub("", "\n".join(content.get("traceback", [])))
        error = f"{content.get('ename', content['status'])}: {content.get('evalue', '')}"
        raise CellError(f"{error}\n{traceback}\n{''.join(printed)}")
