"""What every server has, and the functions that list and stop them.

Main side; every function may be called in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, cast

from .. import messages
from ..config import HTTPUV
from ..display import server_html, server_text
from ..hosts import Output
from ..static_paths import StaticPath, StaticPathOptions, StaticTable, normalise_prefix
from .app import App, as_static_paths
from .later import CallbackQueue
from .runtime import get_runtime, running_runtime

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Server", "list_servers", "stop_all_servers", "stop_server"]


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
        self.queue = CallbackQueue()
        """Where its callbacks wait; the one of the loop that it is started in."""
        self._access_log = access_log
        self._id = 0
        self._static_paths = dict(app.static_paths)
        self._static_options = app.static_path_options

    def _start(self, place: messages.Place, allowed_hosts: tuple[str, ...] | None) -> int:
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
        self._id, port = get_runtime().add_server(self, place, settings)
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
