"""What a client sends as a body: in memory when small, in a temporary file when not.

The file belongs to the network side: it is removed when the exchange ends, however it ends.

Network side.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import BinaryIO

from ..messages import RequestBody

__all__ = ["BodyBuffer"]

_WRITE_BYTES = 64 * 1024
_ALONE_BYTES = 4096  # a smaller piece is not worth an object of its own


class BodyBuffer:
    """Collects one request's body. Chunks may have a byte each: none is kept or written alone."""

    __slots__ = ("_file", "_held", "_held_bytes", "_path", "_spool_bytes", "size")

    def __init__(self, spool_bytes: int) -> None:
        self._spool_bytes = spool_bytes
        self._held: list[bytes | bytearray] = []  # what is not in the file; joined once
        self._held_bytes = 0
        self._file: BinaryIO | None = None
        self._path: str | None = None
        self.size = 0

    def append(self, chunk: bytes) -> None:
        """Add a piece.

        Raises:
            OSError: the temporary file could not be made or written.
        """
        size, held = len(chunk), self._held
        self.size += size
        self._held_bytes += size
        if size >= _ALONE_BYTES:
            held.append(chunk)
        elif held and isinstance(held[-1], bytearray):
            held[-1] += chunk
        else:
            held.append(bytearray(chunk))
        if self._file is None and self.size > self._spool_bytes:
            handle, self._path = tempfile.mkstemp(prefix="httpuv-body-")
            self._file = os.fdopen(handle, "wb", buffering=0)
        if self._file is not None and self._held_bytes >= _WRITE_BYTES:
            self._write_held()

    def end(self) -> None:
        """It is whole.

        Raises:
            OSError: its end could not be written.
        """
        if self._file is not None:
            self._write_held()
            self._file.close()

    def _write_held(self) -> None:
        assert self._file is not None
        left = memoryview(b"".join(self._held))
        while left:  # a disk that is nearly full takes a part
            left = left[self._file.write(left) :]
        self._let_go()

    def _let_go(self) -> None:
        self._held = []
        self._held_bytes = 0

    def finish(self) -> RequestBody:
        """The whole body, as it crosses the bridge."""
        if self._path is not None:
            return self._path, self.size
        return b"".join(self._held)

    def discard(self) -> None:
        """Forget it and remove its file."""
        self._let_go()
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._path = None
