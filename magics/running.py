"""The servers that run, as a user calls them; and one started in place of another.

Main side.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from IPython.core.error import UsageError

from httpuv_kernel import (
    HttpuvError,
    PortInUseError,
    Server,
    WebServer,
    list_servers,
    start_server,
)
from httpuv_kernel.main.app import App
from httpuv_kernel.main.static_server import start_at_default_port

__all__ = ["Where", "call_names", "find_server", "server_named", "start_or_replace"]


class Where(NamedTuple):
    """What a user says of a server's address."""

    host: str
    port: int | None
    """None: the port it has, or the usual one."""
    token: bool
    isolation: str | None = None
    """None: as it is, or as `HTTPUV.isolation` says."""


# -- finding ---------------------------------------------------------------------------------------


def server_named(name: str) -> WebServer | None:
    """The server at a TCP port that has this name, if one runs."""
    for server in list_servers():
        if isinstance(server, WebServer) and server.name == name:
            return server
    return None


def call_names() -> list[str]:
    """The words by which `find_server` knows those that run: names, else ports."""
    return [server.name or str(getattr(server, "port", "")) for server in list_servers()]


def find_server(word: str | None) -> Server:
    """The server of this name or port; of None the only one.

    Raises:
        UsageError: there is none, or more than one.
    """
    servers = list_servers()
    if word is not None:
        by_name = [server for server in servers if server.name == word]
        by_port = [server for server in servers if str(getattr(server, "port", "")) == word]
        servers = by_name or by_port
    if len(servers) == 1:
        return servers[0]
    raise UsageError(f"{_what_is_wrong(word)}; running: {_all_running()}")


def _what_is_wrong(word: str | None) -> str:
    if not list_servers():
        return "no server is running" if word is None else f"no server is called {word!r}"
    if word is None:
        return "say which server"
    close = difflib.get_close_matches(word, call_names(), n=1)
    return f"no server is called {word!r}" + (f", did you mean {close[0]!r}?" if close else "")


def _all_running() -> str:
    known = []
    for server in list_servers():
        port = str(getattr(server, "port", ""))
        known.append(f"{server.name} ({port})" if server.name and port else server.name or port)
    return ", ".join(known) or "none"


# -- starting --------------------------------------------------------------------------------------


def start_or_replace(
    app: App, name: str, where: Where, previous: WebServer | None, *, quiet: bool = False
) -> WebServer:
    """Serve an app, in place of a server that runs.

    With the same host, port, token and isolation the previous server goes on with the new app; with
    others it is stopped, and its port kept if no other is asked for. A token is kept, so that links
    go on to work. Another server of this process that is in the way is stopped, with a note.

    Args:
        app: what to serve.
        name: for a server that has none.
        where: port 0 is any port, so also the one it has.
        previous: the server to replace.
        quiet: neither notes nor warnings.

    Raises:
        HttpuvError: as `start_server`; the previous server, or one like it, runs on.
    """
    if previous is None:
        return _start(app, name, where, where.token, quiet=quiet)
    port = where.port or previous.port
    where = where._replace(isolation=where.isolation or previous.isolation)
    same = (previous.host, bool(previous.token), previous.port, previous.isolation)
    if (where.host, where.token, port, where.isolation) == same:
        return _hand_over(previous, app, name)
    token = where.token and (previous.token or True)
    if port != previous.port:
        server = _start(app, name, where, token, quiet=quiet)
        previous.stop()
        return server
    previous.stop()
    try:
        return _start(app, name, where._replace(port=port), token, quiet=quiet)
    except HttpuvError:
        old = Where(previous.host, port, bool(previous.token), previous.isolation)
        _start(previous.app, previous.name, old, previous.token or False, quiet=True)
        raise


def _hand_over(server: WebServer, app: App, name: str) -> WebServer:
    """The server goes on with another app."""
    if server.app is not app:
        server.replace_app(app)
    server.name = server.name or name
    return server


def _start(app: App, name: str, where: Where, token: bool | str, *, quiet: bool) -> WebServer:
    host, port, _, isolation = where
    options: dict[str, Any] = {"name": name, "token": token, "isolation": isolation}
    if port is None:
        return start_at_default_port(host, app, quiet=quiet, **options)
    try:
        return start_server(host, port, app, quiet, **options)
    except PortInUseError:
        if not _make_way(port, quiet=quiet):
            raise
    return start_server(host, port, app, quiet, **options)


def _make_way(port: int, *, quiet: bool) -> bool:
    """Stop the servers of this process at a port; whether there were any."""
    found = [
        server for server in list_servers() if isinstance(server, WebServer) and server.port == port
    ]
    for server in found:
        server.stop()
        if not quiet:
            print(f"Stopped {server.name or 'the server'}, which was at port {port}")
    return bool(found)
