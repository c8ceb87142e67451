"""Where what callbacks print, display and raise goes instead of the cell, and how much of it.

Imports neither side.
"""

from __future__ import annotations

import io
import logging
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from time import monotonic
from types import TracebackType
from typing import Any, TextIO, TypeAlias

from .base import Host, Output

__all__ = ["FloodGate", "RedirectedOutput", "as_output"]

_WINDOW = 60.0


class FloodGate:
    """A context in which prints beyond so many characters a minute are left out, with a note.

    A handler that prints for each of thousands of requests would make the notebook unusable, and
    its file huge. Main thread; may be nested.
    """

    __slots__ = ("_last", "_left", "_limit", "_streams", "_until")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._until = 0.0
        self._streams: list[_Streams] = []
        self._last: _Streams = (None, None, _Limited(self, None), _Limited(self, None))

    def __enter__(self) -> None:
        streams = self._last
        if streams[0] is not sys.stdout or streams[1] is not sys.stderr:
            out, err = sys.stdout, sys.stderr
            self._last = streams = out, err, _Limited(self, out), _Limited(self, err)
        self._streams.append(streams)
        sys.stdout, sys.stderr = streams[2:]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        out, err, limited_out, limited_err = self._streams.pop()
        if sys.stdout is limited_out:  # else the user's code has put another there, to stay
            sys.stdout = out
        if sys.stderr is limited_err:
            sys.stderr = err

    def write(self, stream: TextIO, text: str) -> int:
        """Write what there is room for."""
        now = monotonic()
        if now >= self._until:
            self._until, self._left = now + _WINDOW, self._limit
        if self._left > 0:
            self._left -= len(text)
            stream.write(text)
            if self._left <= 0:
                stream.write(
                    f"\nhttpuv_kernel: handlers have printed {self._limit:,} characters in a "
                    f"minute; for {self._until - now:.0f} s nothing more is shown "
                    "(HTTPUV.output_limit)\n"
                )
        return len(text)


class _Limited:
    """A stream behind a flood gate; in all else the stream itself."""

    def __init__(self, gate: FloodGate, stream: Any) -> None:
        self._gate = gate
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what there is room for."""
        return self._gate.write(self._stream, text)

    def writelines(self, lines: list[str]) -> None:
        """Write what there is room for."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_Streams: TypeAlias = tuple[Any, Any, _Limited, _Limited]  # what was there, and what is instead


class RedirectedOutput(Output):
    """Output as pieces of text to a function: `deliver(stream, text)`, "stdout" or "stderr"."""

    follows_service = False

    def __init__(
        self,
        deliver: Callable[[str, str], object],
        show: Callable[[Any], object] | None = None,
    ) -> None:
        """`show`: takes what is displayed; None for its text."""
        super().__init__()
        self._deliver = deliver
        self._show = show

    def run(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a whole callback."""
        with self._captured():
            return super().run(function, *arguments)

    def run_step(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a step of a task that runs in a copy of `context` already."""
        with self._captured():
            return function(*arguments)

    def show_error(self, host: Host, error: BaseException, where: str) -> None:
        """Deliver the traceback."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self._deliver("stderr", f"httpuv_kernel: {where}\n" + "".join(lines))

    @contextmanager
    def _captured(self) -> Generator[None, None, None]:
        out, err = io.StringIO(), io.StringIO()
        shown: list[Any] = []
        try:
            with redirect_stdout(out), redirect_stderr(err), _captured_display(shown):
                yield
        finally:
            for each in shown:
                if self._show is not None:
                    self._show(each)
                else:
                    print(each.data.get("text/plain", ""), file=out)
            for stream, text in (("stdout", out.getvalue()), ("stderr", err.getvalue())):
                if text:
                    self._deliver(stream, text)


@contextmanager
def _captured_display(shown: list[Any]) -> Generator[None, None, None]:
    """Have IPython's display() append to a list, where IPython is."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None:
        yield
        return
    from IPython.utils.capture import capture_output

    with capture_output(stdout=False, stderr=False) as captured:
        try:
            yield
        finally:
            shown += captured.outputs


def as_output(target: Any) -> Output:
    """An output from what the user names: see `Server.output`.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(target, Output):
        return target
    if target is None:
        return RedirectedOutput(lambda stream, text: None, lambda shown: None)
    if isinstance(target, logging.Logger):
        return RedirectedOutput(_to_logger(target))
    if hasattr(target, "append_stdout"):  # ipywidgets.Output
        return RedirectedOutput(
            lambda stream, text: getattr(target, f"append_{stream}")(text),
            target.append_display_data,
        )
    if hasattr(target, "write"):
        return RedirectedOutput(lambda stream, text: target.write(text))
    raise TypeError(
        "output is an ipywidgets.Output, a logger, a file, or None for nowhere; server.cell_output "
        f"is the cell's own; not {target!r}"
    )


def _to_logger(logger: logging.Logger) -> Callable[[str, str], None]:
    def deliver(stream: str, text: str) -> None:
        level = logging.INFO if stream == "stdout" else logging.ERROR
        logger.log(level, "%s", text.rstrip("\n"))

    return deliver
