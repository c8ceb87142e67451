"""`%httpuv_log` and `%httpuv_config`: what happened, and what is set.

Main side.
"""

from __future__ import annotations

import ast
import difflib
import shlex
from argparse import Namespace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from traitlets import List, TraitError, TraitType

from httpuv_kernel import HTTPUV, LogEntry, Server, list_servers
from httpuv_kernel.main.serving import option

from .arguments import parsed
from .running import call_names, find_server
from .table import Table

__all__ = ["LEVELS", "RecordMagics", "traits"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE")
_LOG_HEADS = ("server", "time", "method", "path", "status", "bytes", "ms", "waited ms")
_CONFIG_HEADS = ("name", "value", "default", "meaning")


def traits() -> dict[str, TraitType[Any, Any]]:
    """The settings, by name."""
    return HTTPUV.class_own_traits(config=True)


@magics_class
class RecordMagics(Magics):
    """The magics that tell what happened and what is set."""

    @line_magic
    @parsed(
        option(
            "which",
            nargs="?",
            metavar="NAME",
            help="a server's name or port (default: all)",
        ),
        option(
            "level",
            nargs="?",
            metavar="LEVEL",
            help=f"log from here on what is at least so grave: {', '.join(LEVELS)}; alone, it "
            "shows no table",
        ),
        option(
            "-n",
            dest="count",
            type=int,
            default=20,
            metavar="N",
            help="how many responses (default: %(default)s)",
        ),
    )
    def httpuv_log(self, arguments: Namespace) -> Table | None:
        """Show the last responses of the servers of this kernel, the oldest first.

        "ms" is from the request's arrival to the last byte; "waited ms" is how much of that the
        kernel was busy with something else. A status of 499: the client left before any response.
        """
        which, level = arguments.which, arguments.level
        if level is None and which and which.upper() in LEVELS and which not in call_names():
            which, level = None, which
        if level is not None:
            _set("log_level", level.upper().replace("NONE", "None"))
        if level is not None and which is None:
            return None
        return _log([find_server(which)] if which else list_servers(), arguments.count)

    @line_magic
    @parsed(
        option(
            "setting",
            nargs="*",
            metavar="NAME",
            help="a setting to show, or NAME = VALUE to change it; a list is VALUE VALUE...",
        )
    )
    def httpuv_config(self, arguments: Namespace) -> Table:
        """Show or change the settings of httpuv_kernel.

        Servers take the settings as they are when they are started. In a configuration file of
        IPython they are c.HTTPUV.NAME = VALUE.
        """
        left, equals, value = arguments.line.partition("=")
        name = left.strip().removeprefix("c.").removeprefix("HTTPUV.")
        if name and name not in traits():
            close = difflib.get_close_matches(name, traits(), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(traits())}"
            raise UsageError(f"there is no setting {name!r}; {hint}")
        if equals:
            if not name:
                raise UsageError("say which setting: %httpuv_config NAME = VALUE")
            _set(name, value.strip())
        return _settings([name] if name else sorted(traits()))


def _log(servers: list[Server], count: int) -> Table:
    entries = [(entry, server) for server in servers for entry in server.log(count)]
    entries.sort(key=lambda each: each[0].time)
    rows = [(_call_name(server), *_log_row(entry)) for entry, server in entries[-max(count, 0) :]]
    first = 0 if len(servers) > 1 else 1
    return Table(_LOG_HEADS[first:], [row[first:] for row in rows], "no response yet")


def _call_name(server: Server) -> str:
    return server.name or str(getattr(server, "port", ""))


def _log_row(entry: LogEntry) -> tuple[str, ...]:
    return (
        entry.time.strftime("%H:%M:%S"),
        entry.method or "-",
        entry.target or "-",
        str(entry.status),
        str(entry.size),
        f"{entry.seconds * 1000:.1f}",
        f"{entry.waited * 1000:.1f}",
    )


def _settings(names: list[str]) -> Table:
    config = HTTPUV.instance()
    rows = [
        (name, repr(getattr(config, name)), repr(traits()[name].default()), traits()[name].help)
        for name in names
    ]
    return Table(_CONFIG_HEADS, rows, "")


def _set(name: str, text: str) -> None:
    """Set a trait as a command line of traitlets would.

    Raises:
        UsageError: the text is no value of it.
    """
    trait = HTTPUV.instance().traits()[name]
    try:
        if text.startswith("["):
            value = ast.literal_eval(text)
        elif isinstance(trait, List):
            value = trait.from_string_list(shlex.split(text))
        else:
            value = trait.from_string(text)
        setattr(HTTPUV.instance(), name, value)
    except (TraitError, ValueError, SyntaxError):
        raise UsageError(f"{name} is {trait.info()}, not {text!r}") from None
