"""The servers as a user holds them, and the functions that start and stop them.

Main side; every function may be called in any thread.
"""

from __future__ import annotations

import errno
import logging
import re
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, cast

from .. import messages
from ..addresses import check_port, is_loopback, is_wildcard, resolve, url_host
from ..browser_url import browser_url
from ..config import HTTPUV
from ..display import server_html, server_text
from ..errors import AddressNotAvailableError, PortInUseError, PortPermissionError, StartError
from ..hosts import Output
from ..static_paths import StaticPath, StaticPathOptions, StaticTable, normalise_prefix
from .app import App, as_app, as_static_paths
from .runtime import get_runtime, running_runtime, runtime_here

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Server",
    "WebServer",
    "list_servers",
    "start_server",
    "stop_all_servers",
    "stop_server",
]

log = logging.getLogger("httpuv_kernel")

_TOKEN = re.compile(r"[A-Za-z0-9_\-]{16,}")


class Server:
    """A server that was started; made by `start_server`, never directly (manual: startServer).

    Usable as a context manager, which stops it at the end. Any thread.
    """

    def __init__(self, app: App, output: Output, token: str = "", access_log: bool = False) -> None:
        self.app = app
        """The app, with nothing left to guess."""
        self.output = output
        """Where its callbacks' output goes: the cell that started it."""
        self.token = token
        """The path segment under which everything is served; "" when there is none."""
        self._access_log = access_log
        self._id = 0
        self._static_paths = dict(app.static_paths)
        self._static_options = app.static_path_options

    def _start(
        self, addresses: list[tuple[str, int]], allowed_hosts: tuple[str, ...] | None
    ) -> int:
        config = HTTPUV.instance()
        settings = messages.Settings(
            tuple(config.limits()),
            self.app.call is not None,
            self.app.on_headers is not None,
            self.app.on_ws_open is not None,
            tuple(config.allowed_origins),
            allowed_hosts,
            self._table().to_plain(),
            self.token,
            self._access_log,
        )
        self._id, port = get_runtime().add_server(self, addresses, settings)
        return port

    def stop(self) -> None:
        """Close all its connections and free its port. A second call does nothing."""
        runtime = running_runtime()
        if runtime is not None and runtime.servers.get(self._id) is self:
            runtime.remove_server(self._id)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been stopped."""
        runtime = running_runtime()
        return runtime is not None and runtime.servers.get(self._id) is self

    @property
    def url(self) -> str:
        """The URL of its root."""
        raise NotImplementedError

    # -- static paths ----------------------------------------------------------------------------

    def _table(self) -> StaticTable:
        return StaticTable.build(self._static_paths, self._static_options)

    def _update_table(self) -> None:
        runtime = running_runtime()
        if runtime is not None and self.is_running:
            runtime.bridge.ask(messages.SET_STATIC, self._id, self._table().to_plain())

    @property
    def static_paths(self) -> Mapping[str, StaticPath]:
        """URL path → StaticPath; read-only, see `set_static_path`."""
        return MappingProxyType(self._static_paths)

    def set_static_path(self, paths: Mapping[str, object] | None = None, **named: object) -> None:
        """Add or replace static paths; the next request sees them all.

        Raises:
            StaticPathError: a path that cannot be served; nothing is changed then.
        """
        new = as_static_paths({**(paths or {}), **named})
        self._static_paths = {**self._static_paths, **new}
        self._update_table()

    def remove_static_path(self, path: str | list[str]) -> None:
        """Serve a URL path, or several, no longer from disk. An unknown one is ignored."""
        names = {normalise_prefix(name) for name in ([path] if isinstance(path, str) else path)}
        self._static_paths = {k: v for k, v in self._static_paths.items() if k not in names}
        self._update_table()

    @property
    def static_path_options(self) -> StaticPathOptions:
        """The options that static paths inherit."""
        return self._static_options

    def set_static_path_option(self, **options: Any) -> None:
        """Change some of them; the next request sees it.

        Raises:
            StaticPathError: an option that cannot work; nothing is changed then.
            TypeError: an unknown option.
        """
        self._static_options = replace(self._static_options, **options)
        self._update_table()

    # -- how it looks ----------------------------------------------------------------------------

    def _content(self) -> str:
        """What it serves, in a few words."""
        parts = [
            f"{prefix} → {path.path}" for prefix, path in self._static_paths.items() if path.path
        ]
        if self.app.call is not None:
            name = getattr(self.app.call, "__qualname__", type(self.app.call).__name__)
            parts.append(f"{name}()")
        return ", ".join(parts) or "nothing to call"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self.url if self.is_running else "stopped"
        return f"<{type(self).__name__} {state} {self._content()}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        shown = self.url, self._content(), self.is_running
        return {"text/html": server_html(*shown), "text/plain": server_text(*shown)}


class WebServer(Server):
    """A server at a TCP port (manual: WebServer).

    Attributes:
        host: the host that was asked for.
        port: the port that is bound, also when 0 was asked for.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: App,
        output: Output,
        token: str = "",
        access_log: bool = False,
    ) -> None:
        super().__init__(app, output, token, access_log)
        self.host = host
        self.port = port

    def start(self, addresses: list[tuple[str, int]]) -> None:
        """Bind and serve; called once, by `start_server`.

        Raises:
            StartError: the system refused; the subclass and the text say why.
        """
        loopback = all(is_loopback(host) for host, _ in addresses)
        allowed = tuple(HTTPUV.instance().allowed_hosts) if loopback else None
        try:
            self.port = self._start(addresses, allowed)
        except OSError as error:
            raise _start_error(error, self.host, self.port) from None

    @property
    def url(self) -> str:
        """The URL of its root, for a browser."""
        path = f"/{self.token}/" if self.token else "/"
        return browser_url(self.port, path, host=url_host(self.host))


def start_server(
    host: str,
    port: int,
    app: object,
    quiet: bool = False,
    *,
    token: bool | str = False,
    access_log: bool = False,
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
        token: True to serve everything below a path segment that nobody can guess, part of
            `Server.url`; or that segment. Without it requests get 403.
        access_log: log each response to the logger "httpuv_kernel.access".

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
    output = runtime_here().loop.host.capture_output()
    server = WebServer(host, number, checked, output, segment, access_log)
    server.start(addresses)
    return server


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


def stop_server(server: Server) -> None:
    """Close all connections of a server and free its port (manual: stopServer).

    Raises:
        TypeError: not a server.
    """
    if not isinstance(server, Server):
        raise TypeError(f"stop_server takes what start_server returned, not {server!r}")
    server.stop()


def stop_all_servers() -> None:
    """Stop every server of this process (manual: stopAllServers)."""
    for server in list_servers():
        server.stop()


def list_servers() -> list[Server]:
    """Every running server of this process, the oldest first (manual: listServers)."""
    runtime = running_runtime()
    return [] if runtime is None else cast("list[Server]", list(runtime.servers.values()))


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
