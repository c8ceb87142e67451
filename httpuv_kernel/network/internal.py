"""The routes below /__httpuv__/, by which a page of the notebook finds and steers a server.

They pass the gate without its Host and token: the page has yet to learn both. Each is guarded by a
secret of its own instead, in a header that only a page which was given it can send:

    ping    GET, ?id=: says the server's id back, which is in the notebook; tells nothing else
    claim   POST, a key that works once and soon expires: the token and the control secret
    state   GET, the control secret: what there is to show
    stop    POST, the control secret: closes the server

A key is written into the notebook, and may be saved with it; by then it is used up.

Network side.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hmac import compare_digest
from time import monotonic
from typing import Final, Protocol
from urllib.parse import parse_qs

from ..fields import response_head
from ..messages import ServerStatus
from .exchange import Exchange, Reply
from .gate import INTERNAL, Gate
from .pages import error_reply

__all__ = ["InternalRoutes"]

_KEY_SECONDS = 120.0
_MOST_KEYS = 100
_SECRET_FIELD: Final = b"x-httpuv-key"
_ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"}
_PREFLIGHT: Final = {
    **_ANY_ORIGIN,
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "X-Httpuv-Key",
    "Access-Control-Max-Age": "600",
}


class Controlled(Protocol):
    """What the routes need of a server."""

    gate: Gate

    def status(self) -> ServerStatus:
        """Its figures."""

    def stop_by_page(self) -> None:
        """Close it, and tell the main side."""


class InternalRoutes:
    """Answers them for one server."""

    def __init__(self, server: Controlled, identity: str, control: str) -> None:
        self._server = server
        self._identity = identity
        self._control = control
        self._keys: dict[str, float] = {}  # until when
        self._routes: dict[bytes, tuple[bytes, Callable[[Exchange], Reply | None]]] = {
            b"ping": (b"GET", self._ping),
            b"claim": (b"POST", self._claim),
            b"state": (b"GET", self._state),
            b"stop": (b"POST", self._stop),
        }

    def add_key(self, key: str) -> None:
        """Let the page that shows this key have the token and the control secret, once."""
        while len(self._keys) >= _MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[key] = monotonic() + _KEY_SECONDS

    def answer(self, exchange: Exchange) -> Reply:
        """The response to a request for a path of ours."""
        target = exchange.facts.target
        method, route = self._routes.get(
            target[len(INTERNAL) :].partition(b"?")[0], (b"", _nothing)
        )
        if exchange.method == b"OPTIONS" and method:
            return Reply(response_head(204, _PREFLIGHT, None), b"")
        reply = route(exchange) if exchange.method == method else None
        return reply or error_reply(exchange, 403, text="not for this page")

    def _ping(self, exchange: Exchange) -> Reply | None:
        query = parse_qs(exchange.facts.target.partition(b"?")[2].decode("latin-1"))
        if not _equal(query.get("id", [""])[0], self._identity):
            return None
        return _reply(self._identity, "text/plain; charset=utf-8")

    def _claim(self, exchange: Exchange) -> Reply | None:
        until = self._keys.pop(_secret(exchange), 0.0)
        if monotonic() > until:
            return None
        gate = self._server.gate
        gate.allow_host(exchange.facts.host)  # the notebook's page came by this name
        return _json({"token": gate.token.decode(), "control": self._control})

    def _state(self, exchange: Exchange) -> Reply | None:
        if not _equal(_secret(exchange), self._control):
            return None
        return _json(self._server.status()._asdict())

    def _stop(self, exchange: Exchange) -> Reply | None:
        if not _equal(_secret(exchange), self._control):
            return None
        self._server.stop_by_page()
        return _json({"stopped": True})


def _nothing(exchange: Exchange) -> Reply | None:
    return None


def _secret(exchange: Exchange) -> str:
    for name, value in exchange.fields:
        if name == _SECRET_FIELD:
            return value.decode("latin-1")
    return ""


def _equal(given: str, expected: str) -> bool:
    return bool(expected) and compare_digest(given.encode(), expected.encode())


def _json(value: object) -> Reply:
    return _reply(json.dumps(value), "application/json")


def _reply(body: str, media_type: str) -> Reply:
    head = response_head(200, {**_ANY_ORIGIN, "Content-Type": media_type}, None)
    return Reply(head, body.encode())
