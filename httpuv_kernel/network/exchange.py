"""One request and its response, as the network side keeps it.

Network side.
"""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO, NamedTuple

from ..fields import ResponseHead
from ..messages import Fields, RequestBody, RequestHead
from .body import BodyBuffer
from .framing import BodyEncoder, RequestFacts, RequestRefused, accepts_gzip

__all__ = ["BodySource", "Exchange", "Reply", "ResponseStream"]

# Bigger pieces gain nothing on loopback; smaller ones cost a turn of the loop each.
PIECE_BYTES = 256 * 1024


class Exchange:
    """A request as far as it has arrived. Its connection owns it; it knows nothing of sockets."""

    __slots__ = (
        "begun",
        "body",
        "complete",
        "facts",
        "fields",
        "http11",
        "id",
        "keep_alive",
        "method",
        "refusal",
        "version",
    )

    def __init__(self, fields: Fields) -> None:
        self.id = 0  # given when it is handed to the main side
        self.method = b""
        self.version = ""
        self.http11 = False
        self.fields = fields
        self.facts: RequestFacts = _NO_FACTS
        self.keep_alive = False
        self.body: BodyBuffer | None = None
        self.begun = 0.0  # for the access log
        self.complete = False
        self.refusal: RequestRefused | None = None

    def head(self, peer: tuple[str, str], local: tuple[str, str]) -> RequestHead:
        """The head as it crosses the bridge."""
        return (
            self.method.decode("ascii"),
            self.facts.target,
            self.version,
            self.fields,
            peer,
            local,
        )

    def take_body(self) -> RequestBody:
        """The body as it crosses the bridge; its file, if any, stays until `discard`."""
        return b"" if self.body is None else self.body.finish()

    def wants_gzip(self) -> bool:
        """Whether the client accepts gzip."""
        return accepts_gzip(self.fields)

    def discard(self) -> None:
        """Remove what the request left on disk."""
        if self.body is not None:
            self.body.discard()
            self.body = None


_NO_FACTS = RequestFacts(b"", None, False, None, False, None)


class BodySource:
    """A readable body of known length that the connection sends piece by piece."""

    __slots__ = ("_file", "_left", "_unlink")

    def __init__(self, file: BinaryIO, length: int, *, unlink: str | None = None) -> None:
        self._file = file
        self._left = length
        self._unlink = unlink

    def read(self) -> bytes:
        """The next piece; b"" at the end, or when the file has shrunk."""
        piece = self._file.read(min(PIECE_BYTES, self._left))
        self._left -= len(piece)
        return piece

    def send_to(self, fd: int) -> None:
        """Have the system copy what the socket takes at once, without a way through Python.

        Raises:
            OSError: nothing was taken; the system cannot, or the socket takes no more.
        """
        position = self._file.tell()
        sent = os.sendfile(fd, self._file.fileno(), position, self._left)
        self._file.seek(position + sent)
        self._left -= sent

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self._left

    @property
    def exhausted(self) -> bool:
        """All of it was read."""
        return self._left == 0

    def close(self) -> None:
        """Close the file, and remove it when the app gave it away."""
        self._file.close()
        if self._unlink is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._unlink)


class Reply(NamedTuple):
    """A response that the network side makes itself, as `ResponseWriter.respond` takes it."""

    head: ResponseHead
    body: bytes
    source: BodySource | None = None


class ResponseStream:
    """A response whose body is on its way."""

    __slots__ = ("encoder", "keep_alive", "source", "unacknowledged")

    def __init__(
        self, encoder: BodyEncoder, *, keep_alive: bool, source: BodySource | None = None
    ) -> None:
        self.encoder = encoder
        self.keep_alive = keep_alive
        self.source = source
        """Where the network side reads the body itself; None when the main side sends it."""
        self.unacknowledged = 0
        """Bytes written to the transport that the main side still counts as in flight."""

    def close(self) -> None:
        """Let go of the source."""
        if self.source is not None:
            self.source.close()
