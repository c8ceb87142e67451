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


class BodyBuffer:
    """Collects one request's body."""

    __slots__ = ("_chunks", "_file", "_path", "_spool_bytes", "size")

    def __init__(self, spool_bytes: int) -> None:
        self._spool_bytes = spool_bytes
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: str | None = None
        self.size = 0

    def append(self, chunk: bytes) -> None:
        """Add a piece.

        Raises:
            OSError: the temporary file could not be made or written.
        """
        self.size += len(chunk)
        if self._file is not None:
            self._file.write(chunk)
            return
        self._chunks.append(chunk)
        if self.size > self._spool_bytes:
            handle, self._path = tempfile.mkstemp(prefix="httpuv-body-")
            # One chunk is up to 256 KiB already: a buffer would only copy it.
            self._file = os.fdopen(handle, "wb", buffering=0)
            self._file.write(b"".join(self._chunks))
            self._chunks.clear()

    def finish(self) -> RequestBody:
        """The whole body, as it crosses the bridge."""
        if self._file is not None and self._path is not None:
            self._file.close()
            return self._path, self.size
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def discard(self) -> None:
        """Forget it and remove its file."""
        self._chunks.clear()
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._path = None
