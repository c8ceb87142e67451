"""The options that the command line and the magics share: their names, meaning and defaults.

Main side.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from .app import App
from .static_server import DEFAULT_PORT, directory_app

__all__ = ["FILES", "OPEN", "WHERE", "Option", "files_app", "given_for_files", "option"]


class Option(NamedTuple):
    """The arguments of `ArgumentParser.add_argument`."""

    flags: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def dest(self) -> str:
        """Where a Namespace has its value."""
        return str(self.settings.get("dest", self.flags[0].lstrip("-").replace("-", "_")))

    @property
    def takes_value(self) -> bool:
        """Whether the next word belongs to it, whatever that is."""
        return self.settings.get("action", "store") in ("store", "append") and (
            self.settings.get("nargs") not in ("?", "*", 0)
        )


def option(*flags: str, **settings: Any) -> Option:
    """An Option, written as `add_argument` is called."""
    return Option(flags, settings)


def _flag(name: str, **settings: Any) -> Option:
    """One that is None when it is not given."""
    return option(name, action="store_true", default=None, **settings)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"it is 'NAME: VALUE', not {text!r}")
    return name.strip(), value.strip()


WHERE = (
    option("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)"),
    option(
        "--port",
        type=int,
        help=f"port, 0 for any free one (default: {DEFAULT_PORT}, or a random one if it is taken)",
    ),
    option("--token", action="store_true", help="serve below a path that nobody can guess"),
    option(
        "--isolation",
        choices=["thread", "process"],
        help="where sockets and files are served: no cell can hold up a process (default: thread)",
    ),
)
"""Where a server listens, and for whom."""

FILES = (
    option(
        "--listing",
        action=argparse.BooleanOptionalAction,
        help="a page for a directory without index.html (default: yes)",
    ),
    _flag("--cors", help="let pages of any origin read the files"),
    _flag("--spa", help="answer unknown pages with index.html"),
    _flag("--hidden", help="serve names that begin with a dot, too"),
    option(
        "--header",
        action="append",
        dest="headers",
        type=_header,
        metavar="'NAME: VALUE'",
        help="a header to add to each response; may be given again",
    ),
)
"""How files are served."""

OPEN = option("--open", action="store_true", help="open it in a web browser")


def given_for_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of FILES, as `static_path` takes it."""
    values = {each.dest: getattr(arguments, each.dest) for each in FILES}
    return {name: value for name, value in values.items() if value is not None}


def files_app(path: str, arguments: argparse.Namespace) -> App:
    """An app that serves a directory, or a file, as FILES say.

    Raises:
        StaticPathError: it does not exist, or an option cannot work.
    """
    return directory_app(path, **{"listing": True, **given_for_files(arguments)})
