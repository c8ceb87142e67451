"""Real terminals for the tests: a program on a pty, and the screen that a person would see.

pyte is the terminal: it draws what the program writes and answers what the program asks. The screen
is so high that nothing scrolls away.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import sys
import termios
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pexpect
import psutil
import pyte
import pytest
from helpers import wait_until

T = TypeVar("T")

_ROWS, _COLUMNS = 120, 100

CTRL_C = "\x03"
CTRL_D = "\x04"
CTRL_L = "\x0c"

# What every prompt begins with; check_bridge marshals every message between the two sides.
_SETUP = """
import asyncio, logging, os, signal, sys, threading, time
import httpuv_kernel
from httpuv_kernel import *
HTTPUV.instance().check_bridge = True
"""


class _Screen(pyte.Screen):
    """A terminal that reports, such as where its cursor is."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(_COLUMNS, _ROWS)
        self._terminal = terminal

    def lines_to(self, end: int) -> list[str]:
        """The first lines, without blanks at their ends; `display` draws all, in 40 ms."""
        rows = [self.buffer[y] for y in range(min(end, self.lines))]
        return ["".join(row[x].data for x in range(self.columns)).rstrip() for row in rows]

    def write_process_input(self, data: str) -> None:
        self._terminal.type(data)


class Terminal:
    """A program with a prompt. One thread uses it.

    Lines of Python go in by `run`; what is longer than a line by `run_code`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        prompt: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`prompt`: a regular expression that a line matches whose beginning is a prompt."""
        self._prompt = re.compile(prompt)
        self.directory = directory
        self._files = 0
        self._lock = threading.Lock()
        self._screen = _Screen(self)
        self._seen: tuple[list[str], int] | None = None  # since the screen changed
        self._stream = pyte.ByteStream(self._screen)
        command, *arguments = argv
        self._child = pexpect.spawn(
            command,
            arguments,
            cwd=str(directory),
            env={**os.environ, "TERM": "xterm", **(environment or {})},
            dimensions=(_ROWS, _COLUMNS),
        )
        self._child.delaybeforesend = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_line(f"({prompt}).*", 30)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._child.child_fd, 65536)
            except OSError:  # Linux's way to say that the program has left
                return
            if not data:
                return
            with self._lock:
                self._stream.feed(data)
                self._seen = None

    # -- the screen ------------------------------------------------------------------------------

    def _look(self) -> tuple[list[str], int]:
        """The lines that are written on, without blanks at their ends; the row of the cursor."""
        with self._lock:
            if self._seen is None:
                row = self._screen.cursor.y
                self._seen = self._screen.lines_to(row + 20), row
            return self._seen

    @property
    def screen(self) -> str:
        """All lines."""
        return "\n".join(self._look()[0]).rstrip("\n")

    @property
    def line(self) -> str:
        """The line that the cursor is on."""
        lines, row = self._look()
        return lines[row]

    def _prompt_rows(self, lines: list[str]) -> list[int]:
        return [i for i, line in enumerate(lines) if self._prompt.match(line)]

    def _wait(self, find: Callable[[], T], timeout: float) -> T:
        """Return what it finds, when it finds something."""
        found: list[T] = []

        def is_found() -> bool:
            found.append(find())
            return bool(found[-1])

        try:
            wait_until(is_found, timeout)
        except TimeoutError:
            raise TimeoutError(f"not within {timeout:g} s; the screen:\n{self.screen}") from None
        return found[-1]

    def wait_for(self, text: str, timeout: float = 10.0, *, times: int = 1) -> None:
        """Return when the text is on the screen, so many times."""
        self._wait(lambda: self.screen.count(text) >= times, timeout)

    def wait_above(self, text: str, timeout: float = 10.0) -> None:
        """Return when it is on the screen above the prompt, and the cursor at the prompt."""

        def is_above() -> bool:
            lines, row = self._look()
            return text in "\n".join(lines[:row]) and bool(self._prompt.match(lines[row]))

        self._wait(is_above, timeout)

    def wait_line(self, pattern: str, timeout: float = 10.0) -> None:
        """Return when the cursor's line, from its beginning to its end, is like this."""
        self._wait(lambda: re.fullmatch(pattern, self.line), timeout)

    # -- the keyboard ----------------------------------------------------------------------------

    def type(self, keys: str) -> None:
        """Press keys."""
        self._child.send(keys)

    def begin(self, line: str = "") -> Input:
        """Type a line and Enter."""
        self._wait(lambda: self.line, 10)  # a callback that prints hides the prompt for a moment
        count = len(self._prompt_rows(self._look()[0]))
        self.type(line + "\r")
        return Input(self, count)

    def run(self, line: str = "", timeout: float = 20.0) -> str:
        """Type a line and Enter, wait for the next prompt; what was shown in between."""
        return self.begin(line).wait(timeout)

    def begin_code(self, code: str) -> Input:
        """Execute code of any length at the prompt."""
        self._files += 1
        name = f"input_{self._files}.py"
        (self.directory / name).write_text(textwrap.dedent(code))
        return self.begin(f"exec(compile(open('{name}').read(), '{name}', 'exec'))")

    def run_code(self, code: str, timeout: float = 20.0) -> str:
        """The same, and wait for the next prompt; what was shown in between."""
        return self.begin_code(code).wait(timeout)

    def set_up(self) -> None:
        """Import what the tests use."""
        shown = self.run_code(_SETUP)
        assert "Error" not in shown, shown

    def value(self, expression: str) -> Any:
        """The value of an expression there, if a literal that fits in a line."""
        return _printed_value(self.run(f"print('<' + repr({expression}) + '>')"))

    def serve(self, code: str = "", app: str = "app") -> int:
        """Execute code that defines an app, start a server with it; its port."""
        start = f"server = start_server('127.0.0.1', 0, {app})\nprint(f'<{{server.port}}>')\n"
        return int(_printed_value(self.run_code(textwrap.dedent(code) + "\n" + start)))

    def clear(self) -> None:
        """Have an empty screen with a prompt."""
        self.type(CTRL_L)
        self._wait(lambda: self._look()[1] < 3 and self._prompt.match(self.line), 10)

    # -- the process -----------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return int(self._child.pid)

    @property
    def mode(self) -> list[Any]:
        """The terminal's, as termios has it."""
        return termios.tcgetattr(self._child.child_fd)

    @property
    def cpu_seconds(self) -> float:
        """What the process has used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def is_alive(self) -> bool:
        return bool(self._child.isalive())

    def wait_end(self, timeout: float = 10.0) -> int | None:
        """Return when the process has ended; its exit status."""
        self._wait(lambda: not self.is_alive, timeout)
        self._reader.join()
        status: int | None = self._child.exitstatus
        return status

    def close(self) -> None:
        """End the process, whatever state it is in."""
        if self.is_alive:
            self._child.kill(signal.SIGKILL)
            self._child.wait()
        self._reader.join()
        self._child.close()


def _printed_value(shown: str) -> Any:
    found = re.search(r"^<(.*)>$", shown, re.MULTILINE)
    assert found is not None, shown
    return ast.literal_eval(found[1])


class Input:
    """A line that was entered."""

    def __init__(self, terminal: Terminal, count: int) -> None:
        self._terminal = terminal
        self._count = count  # of the prompts until then

    def _lines(self) -> list[str]:
        """From this prompt to the next, if that is there."""
        lines, row = self._terminal._look()
        prompts = self._terminal._prompt_rows(lines)
        is_over = row in prompts[self._count :]
        return lines[prompts[self._count - 1] : row] if is_over else []

    @property
    def is_over(self) -> bool:
        """Whether the next prompt is there."""
        return bool(self._lines())

    def wait(self, timeout: float = 20.0) -> str:
        """Return when the next prompt is there; what was shown between the two."""
        return "\n".join(self._terminal._wait(self._lines, timeout)[1:])


IPYTHONS = ["newest", "ipython8"]
_IPYTHON_PROMPT = r"In \[\d+\]:"

# Nothing that is not typed is shown at the prompt; nothing is kept.
_IPYTHON_CONFIG = """
c.TerminalIPythonApp.display_banner = False
c.TerminalInteractiveShell.autosuggestions_provider = None
c.TerminalInteractiveShell.confirm_exit = False
c.TerminalInteractiveShell.term_title = False
c.HistoryManager.enabled = False
"""


def ipython_python(which: str) -> str:
    """The Python that has this IPython."""
    if which == "newest":
        return sys.executable
    python = os.environ.get("IPYTHON8_PYTHON")
    if python:
        return python
    reason = "IPYTHON8_PYTHON names no Python that has IPython 8; `make test` sets it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def ipython(which: str, directory: Path, *arguments: str) -> Terminal:
    """A terminal in which an IPython shows its prompt."""
    profile = directory / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(_IPYTHON_CONFIG)
    terminal = Terminal(
        [ipython_python(which), "-m", "IPython", *arguments],
        _IPYTHON_PROMPT,
        directory,
        {"IPYTHONDIR": str(directory / "ipython"), "QT_QPA_PLATFORM": "offscreen"},
    )
    terminal.set_up()
    return terminal
