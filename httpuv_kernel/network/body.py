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


class BodyBuffer:
    """Collects one request's body. Chunks may have a byte each: none is kept or written alone."""

    __slots__ = ("_file", "_held", "_path", "_spool_bytes", "size")

    def __init__(self, spool_bytes: int) -> None:
        self._spool_bytes = spool_bytes
        self._held: bytes | bytearray = b""  # what is not in the file
        self._file: BinaryIO | None = None
        self._path: str | None = None
        self.size = 0

    def append(self, chunk: bytes) -> None:
        """Add a piece.

        Raises:
            OSError: the temporary file could not be made or written.
        """
        self.size += len(chunk)
        if not self._held:
            self._held = chunk
        elif isinstance(self._held, bytearray):
            self._held += chunk
        else:
            self._held = bytearray(self._held)
            self._held += chunk
        if self._file is None and self.size > self._spool_bytes:
            handle, self._path = tempfile.mkstemp(prefix="httpuv-body-")
            self._file = os.fdopen(handle, "wb", buffering=0)
        if self._file is not None and len(self._held) >= _WRITE_BYTES:
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
        left = memoryview(self._held)
        while left:  # a disk that is nearly full takes a part
            left = left[self._file.write(left) :]
        self._held = b""

    def finish(self) -> RequestBody:
        """The whole body, as it crosses the bridge."""
        if self._path is not None:
            return self._path, self.size
        return bytes(self._held)

    def discard(self) -> None:
        """Forget it and remove its file."""
        self._held = b""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._path = None
