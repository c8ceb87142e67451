"""Who may ask at all: the gate before everything that a server answers.

The Host is looked at against DNS rebinding: a page of evil.example can let its name point to
127.0.0.1 and read what listens there; the browser then sends `Host: evil.example`. So a server on a
loopback address serves only the names of this machine, IP literals and names that the user allowed.
A token is a path segment that nobody can guess; it works where cookies do not: in frames, webviews,
for sockets.

Pure. Network side.
"""

from __future__ import annotations

import re
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final

from .framing import RequestFacts, RequestRefused

__all__ = ["INTERNAL", "Gate"]

INTERNAL: Final = b"/__httpuv__/"

# RFC 3986, section 3.2.2: reg-name or IP-literal, and a port. Empty is no host of an http URI.
_HOST = re.compile(
    rb"(?P<name>[A-Za-z0-9\-._~%!$&'()*+,;=]+|\[[0-9A-Fa-f:.]+(%25[A-Za-z0-9\-._~]+)?\])(:[0-9]{0,5})?"
)
_CACHE_SIZE = 256
_CACHED_HOST = 256


class Gate:
    """Says of each request why it is refused, or None."""

    def __init__(
        self, allowed: tuple[str, ...] | None, token: str = "", origins: tuple[str, ...] = ()
    ) -> None:
        """`allowed` names extra hosts, ".example.org" for all below it; None lets any host pass.

        `origins` are those whose pages may open sockets, beside a page of the same host.
        """
        self._origins = tuple(origin.lower().rstrip("/") for origin in origins)
        self.token = token.encode()
        self._allowed = None if allowed is None else tuple(name.lower() for name in allowed)
        self._verdicts: dict[bytes, tuple[int, str] | None] = {}

    def admit(self, facts: RequestFacts) -> RequestFacts:
        """The request with its target below the token.

        Raises:
            RequestRefused: it may not ask here.
        """
        if facts.target.startswith(INTERNAL):  # they have secrets of their own
            return facts._replace(is_internal=True)
        if self.token:
            target = self.without_token(facts.target)
            if target is None:
                raise RequestRefused(403, "this server answers only to the link with its token")
            facts = facts._replace(target=target, is_internal=target.startswith(INTERNAL))
            if facts.is_internal:
                return facts
        if facts.host is not None:
            refusal = self.refusal(facts.host)
            if refusal is not None:
                raise RequestRefused(*refusal)
        return facts

    def allow_host(self, host: bytes | None) -> None:
        """Serve this name, too, from now on."""
        match = _HOST.fullmatch(host or b"")
        if match is not None and self._allowed is not None:
            self._allowed += (match["name"].decode().lower().rstrip("."),)
            self._verdicts.clear()

    def without_token(self, target: bytes) -> bytes | None:
        """The target below the token's segment, without "/" when that is all; None for another."""
        path, mark, query = target[1:].partition(b"?")
        given, slash, rest = path.partition(b"/")
        if not compare_digest(given, self.token):
            return None
        return slash + rest + mark + query

    def refusal(self, host: bytes) -> tuple[int, str] | None:
        """`(status, reason)` when a request with this Host is refused; each is looked at once."""
        try:
            return self._verdicts[host]
        except KeyError:
            verdict = self._judge(host)
        if len(host) <= _CACHED_HOST:
            if len(self._verdicts) >= _CACHE_SIZE:
                self._verdicts.clear()
            self._verdicts[host] = verdict
        return verdict

    def origin_refusal(self, origin: bytes | None, host: bytes) -> str | None:
        """Why a page of this Origin may not open a WebSocket; a browser always names its origin.

        The scheme is not compared: behind a proxy the page has https and this server http.
        """
        if origin is None:
            return None
        text = origin.decode("latin-1").lower().rstrip("/")
        scheme, _, authority = text.partition("://")
        if scheme in ("http", "https") and authority == host.decode("latin-1").lower():
            return None
        if "*" in self._origins or text in self._origins:
            return None
        return (
            f"pages of {text!r} may not open WebSockets here; "
            f"if they should, set c.HTTPUV.allowed_origins = [{text!r}]"
        )

    def _judge(self, host: bytes) -> tuple[int, str] | None:
        match = _HOST.fullmatch(host)
        if match is None:
            return 400, "the Host header is not a host and port"
        if self._allowed is None:
            return None
        name = match["name"].decode().lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or _is_ip_literal(name):
            return None
        for allowed in self._allowed:
            if name == allowed or (allowed.startswith(".") and name.endswith(allowed)):
                return None
        return 403, (
            f"this server listens on this machine only and does not answer to the name {name!r}; "
            f"if it should, set c.HTTPUV.allowed_hosts = [{name!r}]"
        )


def _is_ip_literal(name: str) -> bool:
    try:
        ip_address(name.strip("[]").partition("%25")[0])
    except ValueError:
        return False
    return True
