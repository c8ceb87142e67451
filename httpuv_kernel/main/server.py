"""What every server has, and the functions that list and stop them.

Main side; every function may be called in any thread.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote

from .. import messages
from ..bridge import Questions
from ..browser_url import Candidate, environment_origins
from ..config import HTTPUV
from ..display import Displays, ServerView, server_html, server_text
from ..fields import ResponseHead
from ..hosts import Output, as_output
from ..static_paths import StaticPath, StaticPathOptions, StaticTable, normalise_prefix
from .app import App, as_app, as_static_paths
from .exposure import warn_of_roots
from .later import CallbackQueue
from .publish import snapshot
from .runtime import get_runtime, running_runtime, runtime_here

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "LogEntry",
    "Server",
    "ServerOptions",
    "check_isolation",
    "list_servers",
    "stop_all_servers",
    "stop_server",
]


class ServerOptions(NamedTuple):
    """What every kind of server may be started with."""

    name: str = ""
    token: str = ""
    access_log: bool = False
    isolation: str = ""
    """"thread" or "process"; "" for what `HTTPUV.isolation` says."""


class LogEntry(NamedTuple):
    """One response of the access log."""

    time: datetime
    """When it was written, or its client left, in local time."""
    client: str
    method: str
    target: str
    """Path and query, below the token."""
    status: int
    """499 if the client left before any response, as in nginx's log."""
    size: int
    """Bytes of the body, before compression; fewer than it has if the client left meanwhile."""
    seconds: float
    """From the request's arrival to the last byte, or until the client left."""
    waited: float
    """Seconds of that until the main thread began with it; 0 for what that did not answer."""

    @classmethod
    def from_plain(cls, entry: messages.JournalEntry) -> LogEntry:
        """From its form on the bridge."""
        when, client, method, target, status, size, seconds, waited = entry
        moment = datetime.fromtimestamp(when).astimezone()
        texts = client, method.decode("latin-1"), target.decode("latin-1")
        return cls(moment, *texts, status, size, seconds, waited)


class Server:
    """A server that was started; made by `start_server`, never directly (manual: startServer).

    Usable as a context manager, which stops it at the end. Any thread.
    """

    def __init__(self, app: App, output: Output, options: ServerOptions) -> None:
        self.app = app
        """The app, with nothing left to guess."""
        self.cell_output = output
        """Output to the cell that started it."""
        self._output = output
        self.name = options.name
        """How the user calls it; "" when it has no name."""
        self.token = options.token
        """The path segment under which everything is served; "" when there is none."""
        self.identity = secrets.token_urlsafe(9)
        """By which a page of the notebook knows it again; no secret."""
        self.queue = CallbackQueue()
        """Where its callbacks wait; the one of the loop that it is started in."""
        self.network: Questions
        """The network side that listens for it, once it is started."""
        self._access_log = options.access_log
        self.isolation = options.isolation or HTTPUV.instance().isolation
        """Where its network side runs: "thread" or "process"."""
        self._control = secrets.token_urlsafe(24)
        self._displays = Displays()
        self._published: dict[str, tuple[ResponseHead, bytes]] = {}
        self.tells_begin = HTTPUV.instance().busy_timeout > 0
        self._id = 0
        self._static_paths = dict(app.static_paths)
        self._static_options = app.static_path_options

    def _start(self, place: messages.Place, allowed_hosts: tuple[str, ...] | None) -> int:
        config = HTTPUV.instance()
        settings = messages.Settings(
            tuple(config.limits()),
            self._handlers(),
            (*config.allowed_origins, *environment_origins()),
            allowed_hosts,
            self._table().to_plain(),
            self.token,
            self._access_log,
            self.identity,
            self._control,
        )
        isolation = self.isolation
        self._id, port = get_runtime().add_server(self, place, settings, isolation)
        return port

    def stop(self, timeout: float | None = None) -> None:
        """Close all its connections and free its port. A second call does nothing.

        It accepts no more at once. Responses that are being sent from memory or from a file go on;
        WebSockets are closed with 1001. Called in the main thread, it cannot wait for what the main
        thread is to do: requests that wait for it, and streams of the app's, are cut. Called in
        another, it waits for those, too. A handler that is to stop its own server, and be answered,
        calls `later(server.stop)`.

        Args:
            timeout: seconds until what is still on its way is cut; None for
                `HTTPUV.stop_timeout`, as it was when the server was started.
        """
        runtime = running_runtime()
        if runtime is not None and runtime.servers.get(self._id) is self:
            runtime.remove_server(self._id, timeout)

    def stopped(self) -> None:
        """It runs no more: what shows it is to say so."""
        self._displays.update(self._bundle)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been stopped."""
        runtime = running_runtime()
        return runtime is not None and runtime.servers.get(self._id) is self

    @property
    def url(self) -> str:
        """The URL of its root."""
        raise NotImplementedError

    @property
    def output(self) -> Output:
        """Where its callbacks' prints, displays and tracebacks go; `cell_output` at first.

        Set it to an `ipywidgets.Output`, a `logging.Logger`, a file, None for nowhere, or to
        `cell_output` again; that one gives way, inside `service()`, to the cell that called it.
        """
        return self._output

    @output.setter
    def output(self, target: object) -> None:
        self._output = as_output(target)

    # -- static paths ----------------------------------------------------------------------------

    def _table(self) -> StaticTable:
        return StaticTable.build(self._static_paths, self._static_options)

    def _handlers(self) -> tuple[bool, bool, bool]:
        app = self.app
        return app.call is not None, app.on_headers is not None, app.on_ws_open is not None

    def _update(self) -> None:
        runtime = running_runtime()
        if runtime is not None and self.is_running:
            handlers, table = self._handlers(), self._table().to_plain()
            runtime.update_server(self._id, handlers=handlers, static_table=table)
            self.network.ask(messages.SET_APP, self._id, handlers, table)

    def replace_app(self, app: object) -> None:
        """Serve another app at the same port; connections stay.

        Requests that have not begun are the new app's, and so are the static paths. WebSockets are
        closed with 1012 (service restart), so that their pages connect to the new one. Output goes
        to the cell that runs now.

        Raises:
            AppError, StaticPathError: as `start_server`; nothing is changed then.
        """
        self.app = new = as_app(app)
        self._belong_here()
        served = list(self._static_paths.values())
        warn_of_roots([p for p in new.static_paths.values() if p not in served], stacklevel=2)
        self._static_paths = dict(new.static_paths)
        self._static_options = new.static_path_options
        self._update()
        runtime = running_runtime()
        if runtime is not None:
            runtime.sockets.close_all(self, 1012, "the app was replaced")

    def _belong_here(self) -> None:
        """Output to the cell goes to the one that runs now."""
        follows = self._output is self.cell_output
        self.cell_output = runtime_here().loop.host.capture_output()
        if follows:
            self._output = self.cell_output

    # -- snapshots -------------------------------------------------------------------------------

    def publish(self, path: str, value: object, *, media_type: str | None = None) -> None:
        """Serve a value, as it is now, without the main thread: also while a cell runs.

        Published again, requests see the new value, as soon as the network side has heard of it.
        Paths come before static paths and the app.

        Args:
            path: its URL path, decoded.
            value: bytes, text (HTML when it begins with "<"), an object that a notebook shows as
                HTML or a picture, or anything that can be JSON.
            media_type: its Content-Type; None for what the value is.

        Raises:
            TypeError: a value that is none of these.
        """
        path = "/" + path.lstrip("/")
        head, body = self._published[path] = snapshot(path, value, media_type)
        self._send_published(path, tuple(head), body)

    def unpublish(self, path: str) -> None:
        """Serve it no longer. An unknown path is ignored."""
        path = "/" + path.lstrip("/")
        if self._published.pop(path, None) is not None:
            self._send_published(path, None, b"")

    def _send_published(self, path: str, head: tuple[Any, ...] | None, body: bytes) -> None:
        if self.is_running:
            self.network.send((messages.PUBLISH, self._id, _target(path), head, body))

    def published(self) -> tuple[tuple[bytes, tuple[Any, ...], bytes], ...]:
        """What it has published, as it crosses the bridge."""
        pages = list(self._published.items())
        return tuple((_target(path), tuple(head), body) for path, (head, body) in pages)

    # -- what it has done --------------------------------------------------------------------------

    def status(self) -> messages.ServerStatus:
        """How many requests came so far, and what is open now; all 0 once it is stopped."""
        if not self.is_running:
            return messages.ServerStatus(0, 0, 0, 0)
        return messages.ServerStatus(*self.network.ask(messages.ASK_STATUS, self._id))

    def log(self, count: int = 20) -> list[LogEntry]:
        """Its last responses, the oldest first; empty once it is stopped."""
        if not self.is_running:
            return []
        entries = self.network.ask(messages.ASK_JOURNAL, self._id, count)
        return [LogEntry.from_plain(entry) for entry in entries]

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
        warn_of_roots(new.values(), stacklevel=2)
        self._static_paths = {**self._static_paths, **new}
        self._update()

    def remove_static_path(self, path: str | list[str]) -> None:
        """Serve a URL path, or several, no longer from disk. An unknown one is ignored."""
        names = {normalise_prefix(name) for name in ([path] if isinstance(path, str) else path)}
        self._static_paths = {k: v for k, v in self._static_paths.items() if k not in names}
        self._update()

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
        self._update()

    # -- how it looks ----------------------------------------------------------------------------

    def _content(self) -> str:
        """What it serves, in a few words."""
        paths = self._static_paths.items()
        parts = [f"{prefix} → {_near(path.path)}" for prefix, path in paths if path.path]
        if self.app.call is not None:
            name = getattr(self.app.call, "__qualname__", type(self.app.call).__name__)
            parts.append(f"{name}()")
        text = ", ".join(parts) or "nothing to call"
        return text.encode(errors="replace").decode()  # names on disk need not be Unicode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def shown_url(self) -> str:
        """Its URL as it may be kept in a notebook: with "…" for the token."""
        return self.url.replace(self.token, "…") if self.token else self.url

    def _candidates(self) -> list[Candidate]:
        """Where a browser may find it."""
        return []

    def __repr__(self) -> str:
        state = self.shown_url if self.is_running else "stopped"
        name = f"{self.name!r} " if self.name else ""
        return f"<{type(self).__name__} {name}{state} {self._content()}>"

    def _view(self) -> ServerView:
        return ServerView(
            self.name,
            self.shown_url,
            self._content(),
            self.is_running,
            self.identity,
            tuple(self._candidates()),
        )

    def _new_key(self) -> str:
        """What lets the page that shows it claim it, once."""
        if not self.is_running:
            return ""
        key = secrets.token_urlsafe(18)
        self.network.send((messages.ADD_KEY, self._id, key))
        return key

    def _bundle(self, embed: int | None = None) -> dict[str, str]:
        view = self._view()
        html = server_html(view, self._new_key(), embed)
        return {"text/html": html, "text/plain": server_text(view)}

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return self._bundle()

    def _ipython_display_(self) -> None:
        self.show()

    def show(self, embed: int | None = None) -> None:
        """Show it in the notebook: its link, figures and a button that stops it.

        Args:
            embed: show what it serves, too, in a frame of so many pixels' height.
        """
        self._displays.show(self._bundle(embed))


def _target(path: str) -> bytes:
    """A path as it stands in a request."""
    return quote(path).encode()


def _near(path: str) -> str:
    """The path, from the working directory when it is below that."""
    here = os.path.join(os.getcwd(), "")
    return path[len(here) :] if path.startswith(here) else path


def check_isolation(isolation: str | None) -> str:
    """The isolation, "" for the default.

    Raises:
        ValueError: there is no such.
    """
    if isolation not in (None, "", "thread", "process"):
        raise ValueError(f"isolation is 'thread' or 'process', not {isolation!r}")
    return isolation or ""


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
