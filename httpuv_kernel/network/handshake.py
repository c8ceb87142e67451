"""The WebSocket opening handshake, on a request that is parsed already (RFC 6455, section 4).

Pure but for the library's random ids. Network side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from websockets.datastructures import Headers
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from .exchange import Exchange, Reply
from .gate import Gate
from .pages import error_reply

__all__ = ["Handshake", "answer_handshake", "asks_for_websocket", "upgrade_refusal"]

_EXTRA_HEADERS: Final = {405: {"Allow": "GET"}, 426: {"Sec-WebSocket-Version": "13"}}

# Fields of the connection, which no response of an app has (RFC 9110, section 7.8).
_UPGRADE_FIELDS = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"

# No context is kept from one message to the next: an idle socket costs no compressor, and a
# broadcast is compressed once for all.
_DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


class Handshake(NamedTuple):
    """The answer to a handshake."""

    status: int
    text: str
    """Why it is refused."""
    head: bytes
    """The whole 101, when it is accepted."""
    extensions: Sequence[Extension]


def asks_for_websocket(exchange: Exchange) -> bool:
    """Whether a request wants to become a WebSocket."""
    upgrade = exchange.facts.upgrade
    return upgrade is not None and b"websocket" in upgrade.lower() and exchange.http11


def upgrade_refusal(
    exchange: Exchange, gate: Gate, has_on_ws_open: bool, *, compress: bool
) -> Reply | None:
    """The answer to a handshake that is refused before the main side hears of it."""
    refusal = _refusal(exchange, gate, has_on_ws_open, compress=compress)
    if refusal is None:
        return None
    status, text = refusal
    reply = error_reply(exchange, status, _EXTRA_HEADERS.get(status), text=text)
    if status != 426:
        return reply
    head = reply.head._replace(block=reply.head.block + _UPGRADE_FIELDS)
    return reply._replace(head=head)


def _refusal(
    exchange: Exchange, gate: Gate, has_on_ws_open: bool, *, compress: bool
) -> tuple[int, str] | None:
    """The status, and what is wrong."""
    origin = next((value for name, value in exchange.fields if name == b"origin"), None)
    reason = gate.origin_refusal(origin, exchange.facts.host or b"")
    if reason is not None:
        return 403, reason
    if not has_on_ws_open:
        return 404, ""
    if exchange.method != b"GET":
        return 405, "a WebSocket is asked for with GET"  # section 4.1
    if exchange.facts.has_body:
        return 400, "a WebSocket handshake has no body"
    versions = [value for name, value in exchange.fields if name == b"sec-websocket-version"]
    if versions != [b"13"]:
        return 426, "the version of WebSocket that is spoken here is 13"  # section 4.4
    handshake = answer_handshake(exchange, None, compress=compress)
    return None if handshake.status == 101 else (handshake.status, handshake.text)


def answer_handshake(exchange: Exchange, subprotocol: str | None, *, compress: bool) -> Handshake:
    """Accept or refuse; `subprotocol` is one that the client offers, or None."""
    headers = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in exchange.fields)
    protocol = ServerProtocol(
        extensions=[_DEFLATE] if compress else None,
        subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
    )
    request = Request(exchange.facts.target.decode("latin-1"), headers)
    response = protocol.accept(request)
    if response.status_code != 101:
        text = (response.body or b"").decode("utf-8", "replace").partition("\n")[0]
        return Handshake(response.status_code, text, b"", ())
    lines = [b"HTTP/1.1 101 Switching Protocols\r\n"]
    lines += [
        f"{name}: {value}\r\n".encode("latin-1") for name, value in response.headers.raw_items()
    ]
    return Handshake(101, "", b"".join([*lines, b"\r\n"]), protocol.extensions)
