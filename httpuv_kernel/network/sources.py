"""Bodies that the network side reads itself, piece by piece: files and what is compressed.

Network side.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod

__all__ = ["PIECE_BYTES", "BodySource", "FileHandle", "FileSource", "MemorySource", "remove_file"]

# Bigger pieces gain nothing on loopback; smaller ones cost a turn of the loop each.
PIECE_BYTES = 256 * 1024


def remove_file(path: str) -> None:
    """Remove a file that the app gave away, if it is still there."""
    with contextlib.suppress(OSError):
        os.unlink(path)


class FileHandle:
    """An open file, read by position, so that many can; closed when nobody has it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, count: int, position: int) -> bytes:
        """Up to `count` bytes from there; fewer only at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self.fd, count, position)
        os.lseek(self.fd, position, os.SEEK_SET)
        return os.read(self.fd, count)

    def __del__(self) -> None:
        os.close(self.fd)


class BodySource(ABC):
    """A body of known length."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length
        """Bytes not read yet."""

    @abstractmethod
    def read(self) -> bytes:
        """The next piece; b"" at the end, or when the file has shrunk.

        Raises:
            OSError: it cannot be read.
        """

    def send_to(self, fd: int) -> None:
        """Have the system copy what a socket takes at once, without a way through Python.

        Raises:
            OSError: nothing was taken; it cannot, or the socket takes no more.
        """
        raise OSError("not a file")

    def close(self) -> None:  # noqa: B027
        """Let go of it."""


class MemorySource(BodySource):
    """Bytes, in pieces that leave others their turn."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        super().__init__(len(body))
        self._body = body

    def read(self) -> bytes:
        """The next piece."""
        first = len(self._body) - self.left
        piece = self._body[first : first + PIECE_BYTES]
        self.left -= len(piece)
        return piece


class FileSource(BodySource):
    """A part of a file, by default all of it."""

    __slots__ = ("_handle", "_position", "_unlink")

    def __init__(
        self, handle: FileHandle, length: int, *, first: int = 0, unlink: str | None = None
    ) -> None:
        super().__init__(length)
        self._handle: FileHandle | None = handle
        self._position = first
        self._unlink = unlink

    def read(self) -> bytes:
        """The next piece."""
        assert self._handle is not None
        piece = self._handle.read(min(PIECE_BYTES, self.left), self._position)
        self._advance(len(piece))
        return piece

    def send_to(self, fd: int) -> None:
        """By sendfile(2)."""
        assert self._handle is not None
        self._advance(os.sendfile(fd, self._handle.fd, self._position, self.left))

    def _advance(self, count: int) -> None:
        self._position += count
        self.left -= count

    def close(self) -> None:
        """Let go of the file, and remove it when the app gave it away."""
        self._handle = None
        if self._unlink is not None:
            remove_file(self._unlink)
            self._unlink = None
