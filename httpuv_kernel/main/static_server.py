"""`run_static_server`: a directory served with one call (manual: runStaticServer).

Main side.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Any

from ..addresses import random_port
from ..errors import PortInUseError
from ..static_paths import static_path
from .app import App
from .run import service
from .runtime import get_runtime
from .web_server import WebServer, start_server

__all__ = [
    "DEFAULT_PORT",
    "browse_url",
    "directory_app",
    "has_desktop",
    "run_static_server",
    "start_at_default_port",
]

DEFAULT_PORT = 7446


def directory_app(path: str | os.PathLike[str], **options: Any) -> App:
    """An app that serves a directory, or a file, and nothing else."""
    return App(static_paths={"/": static_path(path, **options)})


def start_at_default_port(host: str, app: object, **options: Any) -> WebServer:
    """Listen at port 7446, or at a random one when that is taken."""
    try:
        return start_server(host, DEFAULT_PORT, app, **options)
    except PortInUseError:
        return start_server(host, random_port(host=host), app, **options)


def run_static_server(
    dir: str | os.PathLike[str] = ".",
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    background: bool = False,
    browse: bool | None = None,
    token: bool | str = False,
    isolation: str | None = None,
    **static_path_arguments: Any,
) -> WebServer | None:
    """Serve a directory, and say where (manual: runStaticServer).

    Args:
        dir: the directory; the current one by default.
        host: see `start_server`.
        port: None for 7446, or a random one when that is taken.
        background: return the server at once; else block until Ctrl-C, the kernel's interrupt or
            `interrupt()`, and stop it.
        browse: open it in a web browser; None does so when a person sits at a desktop.
        token: see `start_server`.
        isolation: see `start_server`.
        static_path_arguments: see `static_path`.

    Returns:
        The server with `background`, else None.

    Raises:
        HttpuvError: as `start_server` and `static_path`.
    """
    app = directory_app(dir, **static_path_arguments)
    if port is None:
        server = start_at_default_port(host, app, token=token, isolation=isolation)
    else:
        server = start_server(host, port, app, token=token, isolation=isolation)
    if background:
        _announce(server, dir, browse)
        _say("Stop it with stop() of the server that this returned, or stop_all_servers()")
        return server
    with server:
        _announce(server, dir, browse)
        _say("Press Ctrl-C to stop it")
        service(0)
    return None


def _announce(server: WebServer, dir: str | os.PathLike[str], browse: bool | None) -> None:
    _say(f"Serving: '{os.path.abspath(dir)}'")
    _say(f"View at: {server.url}")
    if browse if browse is not None else has_desktop():
        browse_url(server.url)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def has_desktop() -> bool:
    """Whether a browser that is opened here is one that the user sees."""
    if not get_runtime().loop.host.interactive:
        return False
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def browse_url(url: str) -> None:
    """Open a browser; a server without one is still a server."""
    try:
        opened = webbrowser.open(url)
    except Exception:  # what a desktop's launcher may raise is not known
        opened = False
    if not opened:
        _say("No browser could be opened")
