"""What an app may return, and its form on the bridge.

A body is bytes, on disk, asked for piece by piece, sent by whoever has something to send, or an
object that a notebook can show, which becomes what the client accepts.

Main side. Pure but for `RichBody.render`: files are only looked at.
"""

from __future__ import annotations

import functools
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..errors import ResponseError
from ..fields import FieldValue, HeaderInput, ResponseHead, field_pairs, response_head
from ..media_types import media_type
from .rich import is_rich, render
from .streaming import StreamedAnswer

__all__ = [
    "FileBody",
    "PreparedBody",
    "PushBody",
    "PushStream",
    "Response",
    "RichBody",
    "is_response",
    "prepare",
]

_KEYS = frozenset({"status", "headers", "body", "reason"})
_READ_BYTES = 64 * 1024


@dataclass
class Response:
    """A response of an app; a mapping with the same keys does as well (manual: Response Values).

    Attributes:
        status: 200 to 599.
        headers: a mapping or (name, value) pairs; a list as value repeats the header, numbers
            become text.
        body: str (sent as UTF-8), bytes, None, {"file": path, "owned": bool}, a path, an iterable
            or an async iterable of str or bytes, which streams; or any object that a notebook can
            show (see `RichBody`), which a handler may also return bare.
        reason: the reason phrase; None for the standard one.
    """

    status: int = 200
    headers: HeaderInput | None = None
    body: object = None
    reason: str | None = None


class FileBody(NamedTuple):
    """A body on disk; the network side sends it, and removes it when `owned`."""

    path: str
    owned: bool


class PushStream(Protocol):
    """A response that is sent piece by piece, on the main side."""

    begun: bool

    def acknowledge(self, count: int) -> None:
        """The client has taken so many bytes."""

    def abandon(self) -> None:
        """The client has left."""


class PushBody(ABC):
    """A body whose pieces are sent when there are some, instead of being asked for."""

    @abstractmethod
    def open(self, answer: StreamedAnswer, head: tuple[Any, ...]) -> PushStream:
        """Send the head; pieces follow from any thread."""


class RichBody(NamedTuple):
    """An object that a notebook can show, on its way to what the client accepts.

    The client's Accept chooses (RFC 9110, section 12.5.1): a browser gets a page, complete if need
    be, an <img> the picture, `application/json` the data: a frame's records, else what the object's
    JSON is. A client that takes anything (curl, fetch, a library) is a program: it gets the picture
    of what has one, else JSON, else the page, else text. What cannot be served is a 406 with the
    list. A Content-Type of the app's own decides alone.
    """

    response: Response

    def render(self, accept: str | None) -> Response:
        """The response with its body made. Runs the object's code.

        Raises:
            ResponseError: the object has no form of the Content-Type that the app has set.
        """
        status, value, reason = self.response.status, self.response.body, self.response.reason
        pairs: list[tuple[str, FieldValue]] = list(field_pairs(self.response.headers or ()))
        names = {name.lower(): content for name, content in pairs}
        wanted = names.get("content-type")
        if wanted is not None:
            text = wanted.decode("latin-1") if isinstance(wanted, bytes) else str(wanted)
            chosen, data = render(value, text.partition(";")[0].strip())
            if chosen is None:
                raise ResponseError(
                    f"{_shorten(value)} cannot be sent as {text}; it can as "
                    + ", ".join(data.decode().split())
                )
            return Response(status, pairs, data, reason)
        chosen, data = render(value, accept)
        pairs.append(("Vary", "Accept"))
        if chosen is None:
            plain = ("Content-Type", "text/plain; charset=utf-8")
            listed = b"406 Not Acceptable; there is:\n" + data
            return Response(406, [plain, ("Vary", "Accept")], listed)
        if "cache-control" not in names:  # the object is live
            pairs.append(("Cache-Control", "no-cache"))
        charset = "; charset=utf-8" if chosen.startswith("text/") else ""
        return Response(status, [*pairs, ("Content-Type", chosen + charset)], data, reason)


PreparedBody: TypeAlias = (
    "bytes | FileBody | RichBody | PushBody | Iterator[Any] | AsyncIterator[Any]"
)


def is_response(value: object) -> bool:
    """Whether this is meant as a response, good or not, rather than a promise of one.

    A dict always is; another mapping that a notebook can show, as xarray's, is shown.
    """
    if isinstance(value, Mapping):
        return isinstance(value, dict) or not is_rich(value)
    return isinstance(value, Response)


def prepare(value: object, handler: str) -> tuple[ResponseHead, PreparedBody]:
    """The checked head and the body of what a handler returned.

    Raises:
        ResponseError: it cannot be sent; the text names the value.
    """
    if type(value) is dict or (isinstance(value, Mapping) and is_response(value)):
        if not _KEYS.issuperset(value):
            unknown = next(key for key in value if key not in _KEYS)
            raise ResponseError(
                f"{handler} returned a response with an unknown key {unknown!r}; "
                "known are 'status', 'headers', 'body' and 'reason'"
            )
        status, headers = value.get("status", 200), value.get("headers")
        body, reason = value.get("body"), value.get("reason")
    elif isinstance(value, Response):
        status, headers, body, reason = value.status, value.headers, value.body, value.reason
    elif is_rich(value):
        status, headers, body, reason = 200, None, value, None
    else:
        raise ResponseError(
            f"{handler} returned {_shorten(value)}; a response is a dict such as "
            "{'status': 200, 'headers': {'Content-Type': 'text/html'}, 'body': 'Hello'}, "
            "a Response, an object that a notebook can show, or an awaitable of one"
        )
    try:
        if type(status) is not int:
            status = _status(status)
        if type(body) is str:
            return response_head(status, headers, reason), body.encode()
        if type(body) is bytes:
            return response_head(status, headers, reason), body
        if is_rich(body):
            headers = list(field_pairs(headers or ()))
            rich = RichBody(Response(status, headers, body, reason))
            return response_head(status, headers, reason), rich
        prepared = _prepare_body(body)
        if isinstance(prepared, FileBody):
            headers = _with_media_type(headers, prepared.path)
        return response_head(status, headers, reason), prepared
    except (TypeError, ValueError, OSError) as error:
        raise ResponseError(f"{handler} returned a response that cannot be sent: {error}") from None


def _status(status: object) -> int:
    if isinstance(status, bool):
        raise TypeError(f"the status is an integer from 200 to 599, not {status!r}")
    if isinstance(status, float) and status.is_integer():  # R's 200
        return int(status)
    try:
        return operator.index(status)  # type: ignore[arg-type]  # raises for what is no integer
    except TypeError:
        raise TypeError(f"the status is an integer from 200 to 599, not {status!r}") from None


def _prepare_body(body: object) -> PreparedBody:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, Mapping):
        return _file_body(body)
    if isinstance(body, os.PathLike):
        return _file_body({"file": body})
    if isinstance(body, PushBody):
        return body
    if isinstance(body, AsyncIterable):
        return body.__aiter__()
    try:
        return bytes(memoryview(body))  # type: ignore[arg-type]  # any buffer; a copy: it may change
    except TypeError:
        pass
    if hasattr(body, "read"):  # a file: lines would be odd pieces
        return iter(functools.partial(body.read, _READ_BYTES), type(body.read(0))())
    if isinstance(body, Iterable):
        return iter(body)
    raise TypeError(
        f"the body is {_shorten(body)}; it may be str, bytes, None, a file or an iterable"
    )


def _file_body(body: Mapping[Any, Any]) -> FileBody:
    unknown = [key for key in body if key not in ("file", "owned")]
    if unknown or "file" not in body:
        raise TypeError(
            f"a body that is a mapping is {{'file': path, 'owned': bool}}, not {body!r}"
        )
    path = os.path.abspath(os.fsdecode(os.fspath(body["file"])))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"the body's file does not exist or is no regular file: {path!r}")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"the body's file may not be read: {path!r}")
    return FileBody(path, bool(body.get("owned", False)))


def _with_media_type(headers: HeaderInput | None, path: str) -> HeaderInput:
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    if any(isinstance(name, str) and name.lower() == "content-type" for name, _ in pairs):
        return headers or ()
    return [*pairs, ("Content-Type", media_type(path))]


def _shorten(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
