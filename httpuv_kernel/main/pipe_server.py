"""Servers at a Unix domain socket: `start_pipe_server` and what it returns.

Main side; every function may be called in any thread.
"""

from __future__ import annotations

import errno
import os
import socket
from urllib.parse import quote

from .. import messages
from ..errors import InvalidAddressError, PortInUseError, PortPermissionError, StartError
from ..hosts import Output
from .app import App, as_app
from .exposure import warn_of_roots
from .runtime import runtime_here
from .server import Server, ServerOptions, check_isolation, list_servers

__all__ = ["PipeServer", "start_pipe_server"]

_PATH_BYTES = 103  # what every Unix has room for; Linux takes 107


class PipeServer(Server):
    """A server at a Unix domain socket (manual: PipeServer).

    Attributes:
        name: the full path of the socket.
        mask: the permissions that were taken away from it; None for the process's umask.
    """

    def __init__(
        self, name: str, mask: int | None, app: App, output: Output, options: ServerOptions
    ) -> None:
        super().__init__(app, output, options)
        self.name = name
        self.mask = mask

    def start(self) -> None:
        """Bind and serve; called once, by `start_pipe_server`.

        Raises:
            StartError: the system refused; the subclass and the text say why.
        """
        try:
            # Whoever may open the file may ask for any Host: no page of a browser can.
            self._start((messages.UNIX, self.name, self.mask), None)
        except OSError as error:
            raise _start_error(error, self.name) from None

    @property
    def url(self) -> str:
        """Its root as clients of Unix sockets write it: http+unix://%2Frun%2Fapp.sock/."""
        return f"http+unix://{quote(self.name, safe='')}/"


def start_pipe_server(
    name: str | os.PathLike[str],
    mask: int | None,
    app: object,
    quiet: bool = False,
    *,
    access_log: bool = False,
    isolation: str | None = None,
) -> PipeServer:
    """Listen at a Unix domain socket and serve an app in the background (manual: startPipeServer).

    A socket file that a program which is gone has left is replaced. The file is removed when the
    server is stopped.

    Args:
        name: the path of the socket, at most 103 bytes.
        mask: permissions to take away, as a umask does: 0o777 leaves it to root, 0o117 to owner
            and group. None, or a negative number: as the process's umask has it.
        app: see `start_server`.
        quiet: as in `start_server`.
        access_log: as in `start_server`.
        isolation: as in `start_server`.

    Raises:
        InvalidAddressError: a name or mask that cannot be one.
        PortInUseError: another program listens there.
        PortPermissionError, StartError: the system refused, or the file there is no socket.
        AppError, StaticPathError: as `start_server`.
        NotImplementedError: on Windows, where neither Python's asyncio nor browsers have them.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise NotImplementedError(
            "Unix domain sockets are not available here; use start_server('127.0.0.1', 0, app)"
        )
    path = _check_name(name)
    checked_mask = _check_mask(mask)
    options = ServerOptions(access_log=access_log, isolation=check_isolation(isolation))
    checked = as_app(app)
    if not quiet:
        warn_of_roots(checked.static_paths.values(), stacklevel=2)
    output = runtime_here().loop.host.capture_output()
    server = PipeServer(path, checked_mask, checked, output, options)
    server.start()
    return server


def _check_name(name: str | os.PathLike[str]) -> str:
    try:
        path = os.path.abspath(os.path.expanduser(os.fsdecode(os.fspath(name))))
    except TypeError:
        raise InvalidAddressError(f"name is the path of a socket, not {name!r}") from None
    if not os.fspath(name) or "\0" in path:
        raise InvalidAddressError(f"name is the path of a socket, not {name!r}")
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise InvalidAddressError(
            f"the path of a Unix socket is at most {_PATH_BYTES} bytes; this one has "
            f"{len(os.fsencode(path))}: {path}"
        )
    return path


def _check_mask(mask: object) -> int | None:
    if mask is None:
        return None
    if isinstance(mask, bool) or not isinstance(mask, int) or mask > 0o777:
        raise InvalidAddressError(f"mask is None or at most 0o777, such as 0o117, not {mask!r}")
    return mask if mask >= 0 else None


def _start_error(error: OSError, path: str) -> StartError:
    """The system's refusal, with what can be done."""
    number = error.errno or 0
    if number == errno.EADDRINUSE:
        own = any(
            isinstance(server, PipeServer) and server.name == path for server in list_servers()
        )
        user = "a server of this process" if own else "another program"
        return PortInUseError(number, f"{path} is used by {user}; stop that, or use another name")
    if number == errno.EEXIST:
        return StartError(number, f"{path} exists and is no socket; it is left as it is")
    if number in (errno.EACCES, errno.EPERM):
        return PortPermissionError(number, f"this process may not create a socket at {path}")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return StartError(number, f"the directory of {path} does not exist")
    return StartError(number, f"cannot listen at {path}: {error.strerror or error}")
