"""Sockets that a server listens at: TCP ports and Unix domain sockets.

Network side.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Generator
from typing import Final, NamedTuple

from ..messages import TCP, Address, Place

__all__ = ["Binding", "bind"]

# What the system keeps for a client beside what is under way: for one that takes next to nothing it
# would be megabytes, and milliseconds to put them there. Accepted sockets inherit it.
_UNSENT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_UNSENT_BYTES = 256 * 1024

_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


class Binding(NamedTuple):
    """A bound socket, and what it left in the file system."""

    sock: socket.socket
    port: int = 0
    path: str = ""
    inode: tuple[int, int] = (0, 0)
    """Device and inode of the path; another program may have put its own socket there since."""

    @property
    def address(self) -> Address | None:
        """Host and port, unless it listens at several addresses at once, or at none."""
        name = self.sock.getsockname()
        if not isinstance(name, tuple) or name[0] in _WILDCARDS:
            return None
        return name[0], str(name[1])

    def remove_path(self) -> None:
        """Remove the file of a Unix socket, if it is still ours."""
        if self.path:
            with contextlib.suppress(OSError):
                if _inode(self.path) == self.inode:
                    os.unlink(self.path)

    def release(self) -> None:
        """Close it, with what it left."""
        self.sock.close()
        self.remove_path()


def bind(place: Place) -> list[Binding]:
    """Sockets bound to a place, all or none.

    Raises:
        OSError: the system refused one.
    """
    kind, *where = place
    if kind != TCP:
        path, mask = where
        return [_bind_unix(path, mask)]
    bindings: list[Binding] = []
    try:
        for host, port in where[0]:
            # The first address may have left the choice to the system; the others follow it.
            bindings.append(_bind_tcp(host, bindings[0].port if bindings else port))
    except BaseException:
        for binding in bindings:
            binding.release()
        raise
    return bindings


def _bind_tcp(host: str, port: int) -> Binding:
    """A socket bound to a numeric address."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    with _closed_on_error(socket.socket(family, kind, protocol)) as sock:
        if sys.platform != "win32":  # there it would let two programs listen at one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if _UNSENT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _UNSENT, _UNSENT_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        return Binding(sock, port=sock.getsockname()[1])


def _bind_unix(path: str, mask: int | None) -> Binding:
    """A Unix socket at a path, in place of one that nobody listens at any more.

    `mask` takes permissions away, as a umask does. The umask itself belongs to the whole process:
    a file that another thread creates meanwhile would get it, too.
    """
    _make_room(path)
    with _closed_on_error(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        if mask is None:
            sock.bind(path)
        elif sys.platform == "linux":
            mode = 0o777 & ~mask
            os.fchmod(sock.fileno(), mode)  # what the file is created with, before anyone sees it
            sock.bind(path)
            os.chmod(path, mode)  # the process's umask may have taken more
        else:
            previous = os.umask(mask)
            try:
                sock.bind(path)
            finally:
                os.umask(previous)
        return Binding(sock, path=path, inode=_inode(path))


def _make_room(path: str) -> None:
    """Remove the file of a socket whose server is gone.

    Raises:
        OSError: EADDRINUSE when it is not gone, EEXIST when the file is no socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)  # a full queue is a server, too
        if sock.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _inode(path: str) -> tuple[int, int]:
    facts = os.lstat(path)
    return facts.st_dev, facts.st_ino


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Generator[socket.socket, None, None]:
    sock.setblocking(False)
    try:
        yield sock
    except BaseException:
        sock.close()
        raise
