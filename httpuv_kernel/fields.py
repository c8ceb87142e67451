"""Header fields and status lines: checked, encoded, looked up (RFC 9110, sections 5 and 15).

Pure. What an app wrote is checked here before a byte of it can reach the wire; what a client sent
is only looked up here, the parser has checked it.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http.client import responses as _PHRASES
from typing import NamedTuple, TypeAlias

from .media_types import is_compressible
from .messages import Fields

__all__ = [
    "CONNECTION_FIELDS",
    "Headers",
    "ResponseHead",
    "encode_field",
    "field_pairs",
    "response_head",
    "status_line",
]

FieldValue: TypeAlias = "str | bytes | int | float"
HeaderInput: TypeAlias = (
    "Mapping[str, FieldValue | list[FieldValue] | tuple[FieldValue, ...]]"
    " | Iterable[tuple[str, FieldValue]]"
)

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# Fields that describe the connection, not the response: the network side writes its own.
CONNECTION_FIELDS = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade"}
)


class ResponseHead(NamedTuple):
    """A checked response head, ready for the wire; crosses the bridge as a plain tuple."""

    status: int
    line: bytes
    """The status line, CRLF included."""
    block: bytes
    """The encoded fields, each with its CRLF, without those the network side writes."""
    close: bool
    """The app asked for `Connection: close`."""
    dated: bool
    """The app wrote its own Date."""
    compressible: bool
    """The body may be sent with gzip when the client accepts it."""
    length: int | None
    """The Content-Length the app wrote."""


def status_line(status: int, reason: str | None = None) -> bytes:
    """The status line; without `reason` the standard phrase, empty for a code that has none.

    Raises:
        ValueError: a status outside 200 to 599 (1xx is never final), or a reason with a control
            character.
    """
    if reason is None and type(status) is int:
        known = _LINES.get(status)
        if known is not None:
            return known
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"the status of a response is an integer from 200 to 599, not {status!r}")
    phrase = _PHRASES.get(status, "") if reason is None else reason
    if not isinstance(phrase, str) or _CONTROL.search(phrase.encode()):
        raise ValueError(f"the reason is a str without control characters, not {reason!r}")
    return b"HTTP/1.1 %d %s\r\n" % (status, phrase.encode())


_LINES: dict[int, bytes] = {}
_LINES.update({int(code): status_line(int(code)) for code in _PHRASES if 200 <= code <= 599})


def encode_field(name: str, value: FieldValue) -> tuple[bytes, bytes]:
    """One field as bytes; text is UTF-8, numbers become text, outer white space goes.

    Raises:
        ValueError: a name that is no token, or a value with a control character such as CR or LF.
        TypeError: a name or value of another type.
    """
    if not isinstance(name, str):
        raise TypeError(f"a header name is a str, not {name!r}")
    raw_name = name.encode()
    if not _TOKEN.fullmatch(raw_name):
        raise ValueError(f"not a header name: {name!r}")
    if isinstance(value, str):
        raw = value.encode()
    elif isinstance(value, bytes):
        raw = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        raw = str(value).encode()
    else:
        raise TypeError(f"the value of header {name!r} is text or a number, not {value!r}")
    raw = raw.strip(b" \t")
    if _CONTROL.search(raw):
        raise ValueError(f"the value of header {name!r} has a control character: {value!r}")
    return raw_name, raw


def field_pairs(headers: HeaderInput) -> Iterator[tuple[str, FieldValue]]:
    """The app's headers one by one; a list as value repeats the field."""
    if not hasattr(headers, "__iter__"):
        raise TypeError(f"headers are a mapping or (name, value) pairs, not {headers!r}")
    items = headers.items() if isinstance(headers, Mapping) else headers
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f"headers are a mapping or (name, value) pairs, not {item!r}")
        name, value = item
        if isinstance(value, (list, tuple)):
            for each in value:
                yield name, each
        else:
            yield name, value


_CACHE: dict[object, ResponseHead] = {}
_CACHE_SIZE = 512  # distinct heads; an app that never repeats one must not grow the process


def response_head(status: int, headers: HeaderInput | None, reason: str | None) -> ResponseHead:
    """Check and encode the head of a response; equal small heads are encoded once.

    Raises:
        ValueError, TypeError: what the app wrote cannot be sent; see `status_line`, `encode_field`.
    """
    # True == 1 and 200.0 == 200 would share a key with the int.
    if type(status) is not int or (headers and type(headers) is not dict):
        return _encode_head(status, headers, reason)
    key: object = (status, reason)
    if headers:
        assert type(headers) is dict
        for value in headers.values():
            if type(value) is not str:
                return _encode_head(status, headers, reason)
        key = (status, reason, tuple(headers.items()))
    try:
        head = _CACHE.get(key)
    except TypeError:  # a reason that cannot be hashed: let the check name it
        return _encode_head(status, headers, reason)
    if head is None:
        head = _encode_head(status, headers, reason)
        if len(_CACHE) >= _CACHE_SIZE:
            _CACHE.clear()
        _CACHE[key] = head
    return head


def _encode_head(status: int, headers: HeaderInput | None, reason: str | None) -> ResponseHead:
    line = status_line(status, reason)
    block = []
    close = dated = encoded = compressible = False
    length = None
    for name, value in field_pairs(headers or ()):
        raw_name, raw = encode_field(name, value)
        lower = raw_name.lower()
        if lower in CONNECTION_FIELDS:
            if lower == b"connection":
                close = close or b"close" in raw.lower()
            elif lower == b"content-length":
                length = _content_length(raw)
            continue
        if lower == b"date":
            dated = True
        elif lower == b"content-type":
            compressible = is_compressible(raw)
        elif lower == b"content-encoding" or (
            lower == b"cache-control" and b"no-transform" in raw.lower()
        ):
            encoded = True
        block.append(b"%s: %s\r\n" % (raw_name, raw))
    return ResponseHead(
        status, line, b"".join(block), close, dated, compressible and not encoded, length
    )


def _content_length(raw: bytes) -> int:
    if not raw.isdigit():
        raise ValueError(f"Content-Length is a number of bytes, not {raw!r}")
    return int(raw)


class Headers(Mapping[str, str]):
    """The header fields of a request: a read-only mapping, names without regard to case.

    Repeated fields are joined with ", " (cookies with "; "), as RFC 9110, section 5.3 allows;
    `get_all` gives them one by one. Values are decoded as Latin-1, which loses nothing.
    """

    __slots__ = ("_fields", "_joined")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._joined: dict[str, str] | None = None

    def _mapping(self) -> dict[str, str]:
        if self._joined is None:
            joined: dict[str, str] = {}
            for raw_name, raw in self._fields:
                name, value = raw_name.decode("latin-1"), raw.decode("latin-1")
                if name in joined:
                    value = joined[name] + ("; " if name == "cookie" else ", ") + value
                joined[name] = value
            self._joined = joined
        return self._joined

    def __getitem__(self, name: str) -> str:
        return self._mapping()[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._mapping()

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping())

    def __len__(self) -> int:
        return len(self._mapping())

    def get_all(self, name: str) -> list[str]:
        """Every value of this field, in the order of the request."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for field, value in self._fields if field == wanted]

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"
