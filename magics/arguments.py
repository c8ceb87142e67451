"""How the line of a magic is read: words as in a shell, argparse, and errors without traceback.

Main side.
"""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments

from httpuv_kernel.errors import HttpuvError
from httpuv_kernel.main.serving import Option, option

__all__ = ["parsed", "usage_errors"]


class _HelpShown(Exception):
    """Help was asked for and is shown: the magic is over."""


class _Help(argparse.Action):
    """Shows the help; argparse's own would end the process."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(parser.format_help())
        raise _HelpShown


_HELP = option("-h", "--help", action=_Help, nargs=0, help="show this help")


@contextmanager
def usage_errors() -> Iterator[None]:
    """What the package refuses is a user's mistake: its text without traceback."""
    try:
        yield
    except HttpuvError as error:
        raise UsageError(str(error)) from None


def parsed(*options: Option, name: str | None = None) -> Callable[[Any], Any]:
    """Makes a magic of a method that takes parsed arguments; its text ends with their help.

    The Namespace has the line itself too, as `line`. A magic without a cell may raise HttpuvError;
    one with a cell says itself where (`usage_errors`), because the cell's errors are not the
    magic's.

    Args:
        options: what the line may hold.
        name: the magic's name in the help; by default the method's.
    """
    everything = (*options, _HELP)

    def decorate(method: Any) -> Any:
        for each in reversed(everything):
            method = argument(*each.flags, **each.settings)(method)
        method = magic_arguments(name)(method)
        parser = method.parser

        @functools.wraps(method)
        def run(self: object, line: str, *cell: str) -> Any:
            __tracebackhide__ = True  # no user wants to see it above an error of the cell
            try:
                arguments = parser.parse_args(_words(line))
            except _HelpShown:
                return None
            arguments.line = line
            with nullcontext() if cell else usage_errors():
                return method(self, arguments, *cell)

        run.options = everything  # type: ignore[attr-defined]
        return run

    return decorate


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:  # such as a quote that is not closed
        raise UsageError(f"{error}: {line}") from None
