"""`%httpuv_serve` and `%%httpuv_app`.

Main side.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from httpuv_kernel import Server, WebServer, service
from httpuv_kernel.main.app import App, as_app
from httpuv_kernel.main.serving import FILES, OPEN, WHERE, option
from httpuv_kernel.main.static_server import browse_url, has_desktop

from .arguments import parsed, usage_errors
from .cell import run_app_cell
from .running import Where, server_named, start_or_replace
from .things import find_thing

__all__ = ["FRAME_HEIGHT", "ServeMagics", "frame_height", "open_browser"]

FRAME_HEIGHT = 400


def frame_height(text: str) -> int:
    """The height of a frame in pixels, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"the height of the frame is a number of pixels, not {text!r}")
    return int(text)


_SHOWING = (
    OPEN,
    option(
        "--embed",
        nargs="?",
        const=FRAME_HEIGHT,
        type=frame_height,
        metavar="HEIGHT",
        help="show it in a frame, of so many pixels' height (default: %(const)s)",
    ),
    option("--foreground", action="store_true", help="block until an interrupt, then stop it"),
    option("--quiet", action="store_true", help="show nothing and warn of nothing"),
)


@magics_class
class ServeMagics(Magics):
    """The magics that start servers."""

    @line_magic
    @parsed(
        option(
            "what",
            nargs="?",
            default=".",
            metavar="WHAT",
            help="a name of the notebook: an app (a function of a request, a mapping or an object "
            "with call, on_headers, on_ws_open, static_paths), a server, or anything with a rich "
            "display, such as a data frame or a figure, which is shown as it is at each reload. "
            "Else a directory or file. Default: the current directory.",
        ),
        option("--name", help="how %%httpuv_stop and the like call it (default: WHAT)"),
        *WHERE,
        *FILES,
        *_SHOWING,
    )
    def httpuv_serve(self, arguments: Namespace) -> WebServer | None:
        """Serve a directory, an app or an object of this notebook, and show the link.

        Run again, it replaces the server of that name, or of the same thing if no name is given,
        and keeps the port; with the same --host, --port and --token it does so in place. WebSockets
        are then closed with 1012 (service restart). No server of this kernel is in the way: the one
        at the same --port is stopped.

        The value is the server, `server = %httpuv_serve app`; but None when it is shown already
        (--embed, --foreground) or not to be shown (--quiet).
        """
        names = {} if self.shell is None else self.shell.user_ns
        thing = find_thing(names, arguments.what, arguments)
        previous = server_named(arguments.name) if arguments.name else thing.previous
        return _serve(thing.app, arguments.name or thing.name, previous, arguments)

    @cell_magic
    @parsed(
        option(
            "name", nargs="?", default="app", metavar="NAME", help="its name (default: %(default)s)"
        ),
        *WHERE,
        *_SHOWING,
        name="%httpuv_app",
    )
    def httpuv_app(self, arguments: Namespace, cell: str) -> WebServer | None:
        """Serve what the cell defines of call, on_headers, on_ws_open, static_paths,
        static_path_options, subprotocols.

        The cell runs among the notebook's variables, as any cell does: its names stay there, and
        its handlers see the variables as they are at each request. Only what this very cell defines
        is part of the app. It cannot use await outside of functions.

        Run again, the app is replaced and nothing else: the port and open connections stay;
        WebSockets are closed with 1012 (service restart). When the cell fails, the old app goes on.
        """
        __tracebackhide__ = True
        parts = run_app_cell(self.shell, cell)
        with usage_errors():
            app, name = as_app(parts), arguments.name
            return _serve(app, name, server_named(name), arguments)


def _serve(
    app: App, name: str, previous: WebServer | None, arguments: Namespace
) -> WebServer | None:
    where = Where(arguments.host, arguments.port, arguments.token, arguments.isolation)
    server = start_or_replace(app, name, where, previous, quiet=arguments.quiet)
    if arguments.open and not open_browser(server) and not arguments.quiet:
        print("There is no desktop here to open a browser at; use the link")
    if arguments.foreground:
        _block(server, arguments)
        return None
    if arguments.embed is not None and not arguments.quiet:
        server.show(arguments.embed)
    return None if arguments.quiet or arguments.embed is not None else server


def _block(server: WebServer, arguments: Namespace) -> None:
    if not arguments.quiet:
        server.show(arguments.embed)
    try:
        with server:
            service(0)
    except KeyboardInterrupt:  # how it is meant to end
        pass


def open_browser(server: Server) -> bool:
    """Open a browser, if that is one that the user sees; whether that was tried."""
    if not has_desktop():
        return False
    browse_url(server.url)
    return True
