"""`%httpuv_log` and `%httpuv_config`: what happened, and what is set.

Main side.
"""

from __future__ import annotations

import difflib
import shlex
from argparse import Namespace
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from traitlets import CaselessStrEnum, List, TraitError, TraitType

from httpuv_kernel import HTTPUV, LogEntry, Server, list_servers
from httpuv_kernel.main.serving import option

from .arguments import parsed
from .running import find_server
from .table import Table

__all__ = ["LEVELS", "RecordMagics", "traits"]

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"]
_LOG_HEADS = ["time", "method", "path", "status", "bytes", "ms", "waited ms"]


def traits() -> dict[str, TraitType[Any, Any]]:
    """The settings, by name."""
    return HTTPUV.class_own_traits(config=True)


@magics_class
class RecordMagics(Magics):
    """The magics that tell what happened and what is set."""

    @line_magic
    @parsed(
        option("words", nargs="*", metavar="NAME", help="a server's name or port (default: all)"),
        option("-n", dest="count", type=int, default=20, metavar="N", help="how many (default: %(default)s)"),
    )
    def httpuv_log(self, arguments: Namespace) -> Table | None:
        """Show the last responses of the servers of this kernel."""
        return None
