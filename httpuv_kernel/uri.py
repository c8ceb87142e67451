"""Percent-encoding as in browsers, and Base64.

The four URI functions do what those of ECMAScript do (ECMA-262, "URI Handling Functions"), as those
of httpuv are meant to.

Shared ground: imported by both sides, imports neither. Any thread.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol, overload
from urllib.parse import quote

__all__ = [
    "decode_uri",
    "decode_uri_component",
    "encode_uri",
    "encode_uri_component",
    "raw_to_base64",
]

# What is kept beside letters, digits and "-_.~", which urllib never encodes.
_MARKS: Final = "!*'()"
_RESERVED: Final = ";/?:@&=+$,#"

_HEX = "[0-9A-Fa-f]{2}"
_RESERVED_HEX = "|".join(f"{ord(character):x}" for character in _RESERVED)
_ESCAPES = re.compile(f"((?:%{_HEX})+)|%")
_UNRESERVED_ESCAPES = re.compile(f"((?:%(?!(?i:{_RESERVED_HEX})){_HEX})+)|%(?!{_HEX})")


class _OfTextOrTexts(Protocol):
    @overload  # a str is a sequence of str, too: the first that fits holds
    def __call__(self, value: str) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, value: None) -> None: ...
    @overload
    def __call__(self, value: Sequence[str | None]) -> list[str | None]: ...


def _of_each(function: Callable[[str], str]) -> _OfTextOrTexts:
    """Let a function of a str take a sequence of them, and None."""

    def of_one(text: object) -> str | None:
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{function.__name__} takes str, not {text!r}")
        return None if text is None else function(text)

    @functools.wraps(function)
    def of_text_or_texts(value: object) -> str | list[str | None] | None:
        if isinstance(value, str):
            return function(value)
        if isinstance(value, Sequence):
            return [of_one(text) for text in value]
        return of_one(value)

    return of_text_or_texts  # type: ignore[return-value]


@_of_each
def encode_uri(value: str) -> str:
    """Encode a whole URI: all but letters, digits, `-_.!~*'()` and the reserved `;/?:@&=+$,#`.

    A sequence of str gives a list; None stays None, also in a sequence (manual: encodeURI). "#" is
    kept as browsers keep it; httpuv encodes it.

    Raises:
        ValueError: a lone surrogate, which has no UTF-8; a URIError in a browser.
        TypeError: neither a str nor a sequence of them.
    """
    return _encode(value, _MARKS + _RESERVED)


@_of_each
def encode_uri_component(value: str) -> str:
    """Encode a part of a URI: all but letters, digits and `-_.!~*'()`.

    Takes and raises what `encode_uri` does (manual: encodeURIComponent).
    """
    return _encode(value, _MARKS)


@_of_each
def decode_uri(value: str) -> str:
    """Decode a whole URI, but for what would become one of the reserved `;/?:@&=+$,#`.

    A sequence of str gives a list; None stays None, also in a sequence (manual: decodeURI).

    Raises:
        ValueError: a "%" without two hexadecimal digits, or bytes that are not UTF-8; a URIError in
            a browser. httpuv keeps the former and makes broken text of the latter.
        TypeError: neither a str nor a sequence of them.
    """
    return _decode(value, _UNRESERVED_ESCAPES)


@_of_each
def decode_uri_component(value: str) -> str:
    """Decode a part of a URI.

    Takes and raises what `decode_uri` does (manual: decodeURIComponent).
    """
    return _decode(value, _ESCAPES)


def raw_to_base64(x: bytes | bytearray | memoryview) -> str:
    """Bytes in Base64, on one line (manual: rawToBase64; RFC 4648, section 4).

    Raises:
        TypeError: no bytes-like object.
    """
    return base64.b64encode(x).decode("ascii")


def _encode(text: str, kept: str) -> str:
    try:
        return quote(text, safe=kept)
    except UnicodeEncodeError as error:
        raise _malformed(text, error.start, "a lone surrogate has no UTF-8") from None


def _decode(text: str, escapes: re.Pattern[str]) -> str:
    def decode(match: re.Match[str]) -> str:
        if match[1] is None:
            raise _malformed(text, match.start(), "two hexadecimal digits belong after a %")
        try:
            return bytes.fromhex(match[1].replace("%", "")).decode()
        except UnicodeDecodeError as error:
            start = match.start() + 3 * error.start
            raise _malformed(text, start, "what is encoded is not UTF-8") from None

    return escapes.sub(decode, text) if "%" in text else text


def _malformed(text: str, start: int, reason: str) -> ValueError:
    return ValueError(f"{reason}: {text[start : start + 12]!a} at position {start}")
