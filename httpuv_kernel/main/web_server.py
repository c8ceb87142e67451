"""Servers at a TCP port: `start_server` and what it returns.

Main side; every function may be called in any thread.
"""

from __future__ import annotations

import errno
import re
import secrets
import warnings

from .. import messages
from ..addresses import check_port, is_loopback, is_wildcard, resolve, url_host
from ..browser_url import Candidate, browser_url, candidates, environment_hosts
from ..config import HTTPUV
from ..errors import AddressNotAvailableError, PortInUseError, PortPermissionError, StartError
from ..hosts import Output
from .app import App, as_app
from .exposure import warn_of_roots
from .runtime import runtime_here
from .server import Server, ServerOptions, check_isolation, list_servers, stop_server

__all__ = [
    "WebServer",
    "check_token",
    "start_daemonized_server",
    "start_server",
    "stop_daemonized_server",
]

_TOKEN = re.compile(r"[A-Za-z0-9_\-]{16,}")


class WebServer(Server):
    """A server at a TCP port (manual: WebServer).

    Attributes:
        host: the host that was asked for.
        port: the port that is bound, also when 0 was asked for.
    """

    def __init__(
        self, host: str, port: int, app: App, output: Output, options: ServerOptions
    ) -> None:
        super().__init__(app, output, options)
        self.host = host
        self.port = port

    def start(self, addresses: list[tuple[str, int]]) -> None:
        """Bind and serve; called once, by `start_server`.

        Raises:
            StartError: the system refused; the subclass and the text say why.
        """
        loopback = all(is_loopback(host) for host, _ in addresses)
        hosts = (*HTTPUV.instance().allowed_hosts, *environment_hosts())
        allowed = hosts if loopback else None
        try:
            self.port = self._start((messages.TCP, addresses), allowed)
        except OSError as error:
            raise _start_error(error, self.host, self.port) from None

    @property
    def url(self) -> str:
        """The URL of its root, for a browser."""
        path = f"/{self.token}/" if self.token else "/"
        return browser_url(self.port, path, host=url_host(self.host))

    def _candidates(self) -> list[Candidate]:
        return candidates(self.port, "/", url_host(self.host))


def start_server(
    host: str,
    port: int,
    app: object,
    quiet: bool = False,
    *,
    name: str = "",
    token: bool | str = False,
    access_log: bool = False,
    isolation: str | None = None,
) -> WebServer:
    """Listen at an address and serve an app in the background (manual: startServer).

    Network I/O and static paths run on a thread of their own; the app's handlers run on the main
    thread, when it is idle or inside `service()`.

    Args:
        host: an IPv4 or IPv6 address of this machine; "127.0.0.1" for this machine only, "0.0.0.0"
            or "::" for all of its addresses.
        port: 0 to 65535; 0 lets the system choose, see `WebServer.port`.
        app: a function of a request (it is `call`), or a mapping or object with any of `call`,
            `on_headers`, `on_ws_open`, `static_paths`, `static_path_options`.
        quiet: do not warn about what is unsafe.
        name: how `%httpuv_stop` and the like call it.
        token: True to serve everything below a path segment that nobody can guess, part of
            `Server.url`; or that segment. Without it requests get 403.
        access_log: log each response to the logger "httpuv_kernel.access".
        isolation: "thread" or "process": where the network side runs, by default what
            `HTTPUV.isolation` says. A cell cannot hold up a process.

    Raises:
        InvalidAddressError: a host or port that cannot be one.
        PortInUseError, PortPermissionError, AddressNotAvailableError, StartError: the system
            refused.
        AppError: the app is none of these.
        StaticPathError: a static path cannot be served.
    """
    number = check_port(port)
    addresses = resolve(host, number)
    checked = as_app(app)
    segment = check_token(token)
    if not quiet and not segment and any(is_wildcard(address) for address, _ in addresses):
        warnings.warn(
            f"a server at {host!r} can be used by everyone who reaches this machine; "
            "use token=True, or host='127.0.0.1', or quiet=True if that is meant",
            stacklevel=2,
        )
    if not quiet:
        warn_of_roots(checked.static_paths.values(), stacklevel=2)
    output = runtime_here().loop.host.capture_output()
    options = ServerOptions(name, segment, access_log, check_isolation(isolation))
    server = WebServer(host, number, checked, output, options)
    server.start(addresses)
    return server


def start_daemonized_server(host: str, port: int, app: object, quiet: bool = False) -> WebServer:
    """Deprecated: the same as `start_server` (manual: startDaemonizedServer)."""
    _deprecate("start_daemonized_server", "start_server")
    return start_server(host, port, app, quiet)


def stop_daemonized_server(server: Server) -> None:
    """Deprecated: the same as `stop_server` (manual: stopDaemonizedServer)."""
    _deprecate("stop_daemonized_server", "stop_server")
    stop_server(server)


def _deprecate(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=3)


def check_token(token: bool | str) -> str:
    """The path segment of a token: made for True, none for False.

    Raises:
        ValueError: text that cannot be a path segment, or that is easily guessed.
    """
    if isinstance(token, bool):
        return secrets.token_urlsafe(24) if token else ""
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise ValueError(
            "token is True, or at least 16 letters, digits, '-' or '_'; "
            "secrets.token_urlsafe() makes one"
        )
    return token


def _start_error(error: OSError, host: str, port: int) -> StartError:
    """The system's refusal, with what can be done."""
    number = error.errno or 0
    if number == errno.EADDRINUSE:
        for server in list_servers():
            if isinstance(server, WebServer) and server.port == port:
                return PortInUseError(
                    number,
                    f"port {port} is used by a server of this process: {server!r}; stop it first "
                    "(stop_server), or use another port, or port 0 for any free one",
                )
        return PortInUseError(
            number,
            f"port {port} at {host} is used by another program; "
            "use another port, or port 0 for any free one",
        )
    if number in (errno.EACCES, errno.EPERM):
        return PortPermissionError(
            number,
            f"this process may not listen at port {port}; ports below 1024 often need "
            "administrator's rights: use a higher one, or port 0 for any free one",
        )
    if number == errno.EADDRNOTAVAIL:
        return AddressNotAvailableError(
            number,
            f"{host} is not an address of this machine; use '127.0.0.1' for this machine only, "
            "'0.0.0.0' for all of its IPv4 addresses",
        )
    return StartError(number, f"cannot listen at {host} port {port}: {error.strerror or error}")
