"""`%httpuv_serve`, `%httpuv_list`, `%httpuv_stop`.

Main side.
"""

from __future__ import annotations

import os
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from httpuv_kernel import (
    AppError,
    HttpuvError,
    Server,
    WebServer,
    list_servers,
    start_server,
    stop_all_servers,
)
from httpuv_kernel.main.app import App, as_app
from httpuv_kernel.main.static_server import (
    DEFAULT_PORT,
    directory_app,
    start_at_default_port,
)

__all__ = ["HttpuvMagics"]


@magics_class
class HttpuvMagics(Magics):
    """The magics of httpuv_kernel."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._served: dict[str, WebServer] = {}  # by what was asked for

    @magic_arguments()
    @argument(
        "what",
        nargs="?",
        default=".",
        help="a directory or file to serve, or the name of an app in the notebook: a function of a "
        "request, a mapping or an object with call, on_headers, on_ws_open, static_paths. "
        "Default: the current directory.",
    )
    @argument("--host", default="127.0.0.1", help="address to listen at. Default: %(default)s")
    @argument(
        "--port",
        type=int,
        default=None,
        help=f"port to listen at, 0 for any free one. Default: {DEFAULT_PORT} if it is free.",
    )
    @line_magic
    def httpuv_serve(self, line: str) -> WebServer:
        """Serve a directory or an app of this notebook, and show the link.

        Run again with the same argument, it replaces the server it started and keeps the port.
        """
        arguments = parse_argstring(self.httpuv_serve, line)
        what = arguments.what.strip("'\"")
        try:
            app = self._app(what)
            server = self._start(what, app, arguments.host, arguments.port)
        except HttpuvError as error:
            raise UsageError(str(error)) from None
        self._served[what] = server
        return server

    @line_magic
    def httpuv_list(self, line: str) -> ServerList:
        """List the running servers of this kernel."""
        return ServerList(list_servers())

    @magic_arguments()
    @argument("which", nargs="?", help="a port, or 'all'. Not needed when only one server runs.")
    @line_magic
    def httpuv_stop(self, line: str) -> None:
        """Stop a server of this kernel: close its connections and free its port."""
        which = parse_argstring(self.httpuv_stop, line).which
        if which == "all":
            stop_all_servers()
            return
        servers = [server for server in list_servers() if isinstance(server, WebServer)]
        ports = ", ".join(str(server.port) for server in servers) or "none"
        if which is not None:
            servers = [server for server in servers if str(server.port) == which]
        if len(servers) != 1:
            said = f"no server at port {which!r}" if which else "say which server"
            raise UsageError(f"{said}; running: {ports}. %httpuv_stop PORT, or %httpuv_stop all")
        servers[0].stop()

    def _app(self, what: str) -> App:
        """The app that is meant: a name of the notebook before a directory of the same name."""
        names = self.shell.user_ns if self.shell is not None else {}
        if what.isidentifier() and what in names:
            try:
                return as_app(names[what])
            except AppError:
                if not os.path.exists(what):
                    raise
        path = os.path.expanduser(what)
        if not os.path.exists(path):
            raise UsageError(
                f"{what!r} is neither a directory nor the name of an app in this notebook"
            )
        return directory_app(path, listing=True)

    def _start(self, what: str, app: App, host: str, port: int | None) -> WebServer:
        """Start a server in place of the one that served the same, at its port by default."""
        previous = self._served.get(what)
        if previous is None or not previous.is_running:
            return _start(host, port, app)
        if port not in (None, previous.port):
            server = _start(host, port, app)  # when this fails, the old one goes on
            previous.stop()
            return server
        previous.stop()
        return start_server(host, previous.port, app)


def _start(host: str, port: int | None, app: App) -> WebServer:
    if port is not None:
        return start_server(host, port, app)
    return start_at_default_port(host, app)


class ServerList(list[Server]):
    """A list of servers that a notebook shows as their links."""

    def _repr_html_(self) -> str:
        if not self:
            return "<i>no server is running</i>"
        return "".join(server._repr_mimebundle_()["text/html"] for server in self)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) if self else "no server is running"
