"""`%httpuv_list`, `%httpuv_stop`, `%httpuv_open`, `%httpuv_embed`, `%httpuv_service`.

Main side.
"""

from __future__ import annotations

from argparse import Namespace

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from httpuv_kernel import Server, list_servers, service, stop_all_servers
from httpuv_kernel.main.serving import option

from .arguments import parsed
from .running import find_server
from .serve import FRAME_HEIGHT, frame_height, open_browser

__all__ = ["ControlMagics", "ServerList"]

_WHICH = option(
    "which", nargs="?", metavar="NAME", help="its name or port; not needed when only one runs"
)


class ServerList(list[Server]):
    """A list of servers that is shown as each of them."""

    def _ipython_display_(self) -> None:
        for server in self:
            server.show()
        if not self:
            print(repr(self))

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) if self else "no server is running"


@magics_class
class ControlMagics(Magics):
    """The magics for servers that run."""

    @line_magic
    @parsed()
    def httpuv_list(self, arguments: Namespace) -> ServerList:
        """Show the running servers of this kernel; the value is a list of them."""
        return ServerList(list_servers())

    @line_magic
    @parsed(
        option(
            "which",
            nargs="?",
            metavar="NAME",
            help="its name or port, or 'all'; not needed when only one runs",
        )
    )
    def httpuv_stop(self, arguments: Namespace) -> None:
        """Stop a server of this kernel: close its connections and free its port."""
        if arguments.which == "all":
            stop_all_servers()
        else:
            find_server(arguments.which).stop()

    @line_magic
    @parsed(_WHICH)
    def httpuv_open(self, arguments: Namespace) -> Server | None:
        """Open a server in a web browser; where there is no desktop, show its link."""
        server = find_server(arguments.which)
        return None if open_browser(server) else server

    @line_magic
    @parsed(
        _WHICH,
        option(
            "height",
            nargs="?",
            type=frame_height,
            default=FRAME_HEIGHT,
            metavar="HEIGHT",
            help="of the frame, in pixels (default: %(default)s)",
        ),
    )
    def httpuv_embed(self, arguments: Namespace) -> None:
        """Show in a frame what a server serves."""
        find_server(arguments.which).show(arguments.height)

    @line_magic
    @parsed(
        option(
            "timeout",
            nargs="?",
            type=float,
            metavar="MS",
            help="milliseconds to wait for a callback (default: 100); 0: run callbacks until an "
            "interrupt; nan: do not wait",
        )
    )
    def httpuv_service(self, arguments: Namespace) -> None:
        """Run one callback while the cell runs: a request, a message, what later() scheduled."""
        try:
            service(arguments.timeout)
        except ValueError as error:
            raise UsageError(str(error)) from None
