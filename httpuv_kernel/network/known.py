"""Requests that came before: what a client sends again is not parsed again.

Most of a request is what the client's program says in each of them. So the whole of one is known by
its bytes, and its fields are known for another target. Both were checked when they were parsed.

Network side.
"""

from __future__ import annotations

import re
from typing import Final

from .exchange import Exchange
from .framing import RequestFacts, RequestRefused
from .gate import Gate

__all__ = ["KnownRequests"]

_KNOWN: Final = 256
_KNOWN_BYTES: Final = 2048

# What every parser takes for the same (RFC 9112, section 3; the target's characters are those of
# RFC 3986). A request with another line is parsed.
_LINE: Final = re.compile(rb"(GET|HEAD) (/[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]*) HTTP/1\.1\r\n")


class KnownRequests:
    """Those of one server, of all its connections; none of them has a body."""

    __slots__ = ("_longest", "_requests", "_templates")

    def __init__(self, header_bytes: int) -> None:
        """`header_bytes`: no header block is longer; its measure is up to a quarter above ours."""
        self._longest = min(_KNOWN_BYTES, header_bytes * 4 // 5)
        self._requests: dict[bytes, Exchange] = {}
        self._templates: dict[bytes, Exchange] = {}  # by what follows the request line

    def recall(self, data: bytes, gate: Gate) -> Exchange | None:
        """The request that these bytes are, if that is known."""
        known = self._requests.get(data)
        if known is not None:
            return known.copy()
        line = _LINE.match(data) if len(data) <= self._longest else None
        template = self._templates.get(data[line.end() :]) if line is not None else None
        if line is None or template is None:
            return None
        method, target = line.groups()
        try:
            facts = gate.admit(RequestFacts(target, *template.facts[1:-1]))
        except RequestRefused:  # the parser comes to that as well, and says so
            return None
        exchange = template.copy()
        exchange.method = method
        exchange.facts = facts
        return exchange

    def remember(self, data: bytes, exchange: Exchange) -> None:
        """These bytes are this request, which has no body, and what its connection ignores."""
        if len(data) > self._longest or exchange.facts.upgrade is not None:
            return
        _keep(self._requests, data, exchange)
        line = _LINE.match(data)
        if line is not None:
            _keep(self._templates, data[line.end() :], exchange)


def _keep(table: dict[bytes, Exchange], key: bytes, exchange: Exchange) -> None:
    if len(table) >= _KNOWN:
        table.clear()
    table[key] = exchange.copy()
