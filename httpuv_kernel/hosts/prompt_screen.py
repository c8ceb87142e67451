"""The line that is being typed at a prompt of Python's own: off it before output, back after.

Who reads the line is seen from the Python frames below the input hook: none means the prompt
written in C, with or without readline; pyrepl (3.13) and IPython's `--simple-prompt` are written
in Python. Any other frame is user code that called `input()`, and then nothing is idle.

Imports neither side.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = ["Prompt", "off_the_line", "prompt_above"]

# Functions that ask for the next input: module, name.
_ASKING = {
    ("code", "raw_input"),
    ("_pyrepl.readline", "multiline_input"),
    ("IPython.terminal.interactiveshell", "prompt"),
}
_ASKED_BY = ("IPython.utils.py3compat", "input")  # what IPython 8 has instead of input()


class Prompt:
    """Read by the terminal itself: what is typed cannot be drawn again."""

    calls_again = False
    """Whether the hook, once it has returned, is called again for the same line."""

    @property
    def has_input(self) -> bool:
        """Whether keys wait that are no longer the system's."""
        return False

    def leave(self) -> None:
        """Get to the beginning of an empty line."""
        _write("\n")

    def redraw(self) -> None:
        """Show the prompt and what is typed; the cursor is at the beginning of a line."""


class ReadlinePrompt(Prompt):
    """Read by GNU readline, whose functions Python has loaded."""

    calls_again = True

    def __init__(self, module: Any) -> None:
        self._library = ctypes.CDLL(module.__file__)  # None, if it is part of Python: finds it, too

    def leave(self) -> None:
        """Clear all rows of the line."""
        if hasattr(self._library, "rl_clear_visible_line"):
            self._library.rl_clear_visible_line()
            ctypes.CDLL(None).fflush(None)
        else:
            _write("\r\x1b[K")

    def redraw(self) -> None:
        """Have it drawn from nothing."""
        if hasattr(self._library, "rl_on_new_line"):
            self._library.rl_on_new_line()
            self._library.rl_redisplay()


class PyreplPrompt(Prompt):
    """Read by pyrepl, which does here as when it is stopped and continued."""

    calls_again = True

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    @property
    def has_input(self) -> bool:
        """It reads more than a key at a time."""
        return bool(self._reader.console.wait(0))

    def leave(self) -> None:
        """Clear all rows; have the terminal's own mode, in which a newline is one."""
        row = self._reader.cxy[1]
        _write("\r" + (f"\x1b[{row}A" if row else "") + "\x1b[J")
        self._reader.console.restore()

    def redraw(self) -> None:
        """As `leave` found it."""
        self._reader.console.prepare()
        self._reader.dirty = True
        self._reader.refresh()


def prompt_above(frame: FrameType | None) -> Prompt | None:
    """What reads the line in this frame; None when it is user code that asks."""
    reader = None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        function = (module, frame.f_code.co_name)
        if function in _ASKING:
            break
        if function != _ASKED_BY and not str(module).startswith("_pyrepl."):
            return None
        if frame.f_code.co_name == "run_hooks":
            reader = frame.f_locals.get("self")
        frame = frame.f_back
    if reader is not None:
        return PyreplPrompt(reader)
    readline = sys.modules.get("readline")
    return Prompt() if readline is None else ReadlinePrompt(readline)


@contextmanager
def off_the_line(prompt: Prompt) -> Generator[None, None, None]:
    """Inside it, the first output leaves the line; afterwards it is there again."""
    watch = _Watch(prompt)
    # dict: the two may be one.
    streams = dict.fromkeys(s for s in (sys.stdout, sys.stderr) if _is_terminal(s))
    for stream in streams:
        watch.begin(stream)
    try:
        yield
    finally:
        for stream in streams:
            with suppress(AttributeError):
                del stream.write
        if watch.has_left:
            with suppress(Exception):  # such as a pyrepl that has changed
                if not watch.ends_line:
                    _write("\n")
                for stream in streams:
                    stream.flush()
                prompt.redraw()


class _Watch:
    """Notices output. The stream stays the same object, so that loggers that hold it are seen."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self.has_left = False
        self.ends_line = True

    def begin(self, stream: Any) -> None:
        write: Callable[[str], int] = stream.write

        def watched(text: str) -> int:
            if text and not self.has_left:
                self.has_left = True
                with suppress(Exception):
                    self._prompt.leave()
            if text:
                self.ends_line = text.endswith("\n")
            return write(text)

        with suppress(AttributeError):  # a stream that lets nothing be set
            stream.write = watched


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # None; closed
        return False


def _write(text: str) -> None:
    out = sys.__stdout__
    if out is not None:
        out.write(text)
        out.flush()
