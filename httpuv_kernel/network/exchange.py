"""One request and its response, as the network side keeps it.

Network side.
"""

from __future__ import annotations

from typing import NamedTuple

from ..fields import ResponseHead
from ..messages import Fields, RequestBody, RequestHead
from .body import BodyBuffer
from .framing import BodyEncoder, RequestFacts, RequestRefused, accepts_gzip
from .sources import BodySource

__all__ = ["Exchange", "Reply", "ResponseStream"]


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
        "waited",
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
        self.begun = 0.0  # when it was read
        self.waited = 0.0  # seconds of that for the main thread
        self.complete = False
        self.refusal: RequestRefused | None = None

    def copy(self) -> Exchange:
        """The same whole request once more; it has no body."""
        other = Exchange(self.fields)
        other.method = self.method
        other.version = self.version
        other.http11 = self.http11
        other.facts = self.facts
        other.keep_alive = self.keep_alive
        other.complete = True
        return other

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


_NO_FACTS = RequestFacts(b"", None, False, None, False, None, False)


class Reply(NamedTuple):
    """A response that the network side makes itself, as `ResponseWriter.respond` takes it."""

    head: ResponseHead
    body: bytes
    source: BodySource | None = None


class ResponseStream:
    """A response whose body is on its way."""

    __slots__ = ("encoder", "keep_alive", "pieces", "source", "unacknowledged")

    def __init__(
        self, encoder: BodyEncoder, *, keep_alive: bool, source: BodySource | None = None
    ) -> None:
        self.encoder = encoder
        self.keep_alive = keep_alive
        self.source = source
        """Where the network side reads the body itself; None when the main side sends it."""
        self.pieces: list[bytes] = []
        """What the main side has sent in this turn of the loop, encoded."""
        self.unacknowledged = 0
        """Bytes written to the transport that the main side still counts as in flight."""

    def close(self) -> None:
        """Let go of the source."""
        if self.source is not None:
            self.source.close()
