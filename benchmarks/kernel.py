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
        port: of the server that every kernel here has: Hello world at /, files below /static,
            and a WebSocket that sends back what comes.
    """

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.pid = 0
        self.port = 0

    def serve(self, site: Path) -> None:
        port, pid, executable = self.run(
            cells.SERVE.format(static=str(site / "static"))
        ).split(maxsplit=2)  # fmt: skip
        if executable.strip() != sys.executable:
            raise CellError(f"the kernel runs {executable.strip()}, not {sys.executable}")
        self.port, self.pid = int(port), int(pid)

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
    def running(self, code: str) -> Iterator[None]:
        """While a cell runs that prints something first and ends by itself."""
        message_id = self._client.execute(code, store_history=False, allow_stdin=False)
        self._await_output(message_id)
        yield
        with contextlib.suppress(Empty):
            self._client.get_shell_msg(timeout=0)
            raise CellError("the cell ended before what was to happen beside it")
        while True:
            reply = self._client.get_shell_msg(timeout=_CELL_SECONDS)
            if reply["parent_header"].get("msg_id") == message_id:
                return _check(reply, [])

    def _await_output(self, message_id: str) -> None:
        end = monotonic() + _CELL_SECONDS
        while monotonic() < end:
            with contextlib.suppress(Empty):
                message = self._client.get_iopub_msg(timeout=1)
                ours = message["parent_header"].get("msg_id") == message_id
                if ours and message["msg_type"] == "stream":
                    return
        raise CellError("the cell printed nothing")


@contextlib.contextmanager
def start_kernel(site: Path) -> Iterator[Kernel]:
    """A kernel with a server, for as long as this lasts."""
    # No profile, history or start-up file of the user takes part, and nothing is left behind.
    environment = {**os.environ, "IPYTHONDIR": str(site / "ipython"), "TMPDIR": str(site)}
    manager = KernelManager()
    log = site / "kernel.log"
    with open(log, "wb") as file, server_core():
        manager.start_kernel(env=environment, stdout=file, stderr=file)
    client = manager.blocking_client()
    try:
        client.start_channels()
        _await_ready(client, log)
        kernel = Kernel(client)
        kernel.serve(site)
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
