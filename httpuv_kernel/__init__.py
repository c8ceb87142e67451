"""An HTTP and WebSocket server inside a Jupyter kernel.

Network I/O and static files live on a background thread; the app's callbacks run on the main thread
when it is idle, so they see the notebook's live variables without a lock.

::

    network/   sockets, HTTP, files           thread "httpuv-io"
       │  bridge.py: two queues of plain values
    main/      requests, the app, callbacks   main thread
    hosts/     kernel, script: when is the main thread idle
"""

from ._version import __version__
from .addresses import ip_family, random_port
from .browser_url import browser_url
from .config import HTTPUV
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .main.events import EventFeed, ServerEvent, event_stream
from .main.pipe_server import PipeServer, start_pipe_server
from .main.publish import progress
from .main.request import Request
from .main.response import Response
from .main.run import (
    interrupt,
    later,
    next_run_in,
    run_now,
    run_server,
    service,
    service_async,
    with_private_loop,
)
from .main.server import LogEntry, Server, list_servers, stop_all_servers, stop_server
from .main.static_server import run_static_server
from .main.web_server import (
    WebServer,
    start_daemonized_server,
    start_server,
    stop_daemonized_server,
)
from .main.websocket import WebSocket, broadcast
from .static_paths import (
    StaticPath,
    StaticPathOptions,
    exclude_static_path,
    static_path,
    static_path_options,
)
from .uri import (
    decode_uri,
    decode_uri_component,
    encode_uri,
    encode_uri_component,
    raw_to_base64,
)

__all__ = [
    "EventFeed",
    "HTTPUV",
    "LogEntry",
    "PipeServer",
    "Request",
    "Response",
    "Server",
    "ServerEvent",
    "StaticPath",
    "StaticPathOptions",
    "WebServer",
    "WebSocket",
    "__version__",
    "broadcast",
    "browser_url",
    "decode_uri",
    "decode_uri_component",
    "encode_uri",
    "encode_uri_component",
    "event_stream",
    "exclude_static_path",
    "interrupt",
    "ip_family",
    "later",
    "list_servers",
    "load_ipython_extension",
    "next_run_in",
    "progress",
    "random_port",
    "raw_to_base64",
    "run_now",
    "run_server",
    "run_static_server",
    "service",
    "service_async",
    "start_daemonized_server",
    "start_pipe_server",
    "start_server",
    "static_path",
    "static_path_options",
    "stop_all_servers",
    "stop_daemonized_server",
    "stop_server",
    "unload_ipython_extension",
    "with_private_loop",
    *_errors,
]


def load_ipython_extension(ipython: object) -> None:
    """`%load_ext httpuv_kernel`: the magics."""
    from .magics import load

    load(ipython)


def unload_ipython_extension(ipython: object) -> None:
    """`%unload_ext httpuv_kernel`: stops every server and leaves nothing behind."""
    from .magics import unload

    unload(ipython)
