"""The request as an app sees it: Rook's environment, and Python's conveniences beside it.

Main side.
"""

from __future__ import annotations

import codecs
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, unquote

from tornado.httputil import HTTPInputError, parse_body_arguments, parse_cookie

from .._version import __version__
from ..fields import Headers
from ..messages import RequestBody, RequestHead

__all__ = ["ErrorStream", "InputStream", "Request"]


class InputStream(io.RawIOBase):
    """`rook.input`: the body as a binary file, with Rook's three methods (Rook specification).

    Small bodies are in memory, larger ones in a temporary file that is gone after the response.
    """

    def __init__(self, body: RequestBody) -> None:
        super().__init__()
        self._file: BinaryIO
        if isinstance(body, bytes):
            self._file, self._size = io.BytesIO(body), len(body)
        else:
            self._file = io.BytesIO()  # the finalizer closes it, also when open() raises
            self._file, self._size = open(body[0], "rb"), body[1]  # noqa: SIM115

    def __len__(self) -> int:
        return self._size

    def read(self, n: int | None = -1) -> bytes:
        """The next n bytes, or all that is left."""
        return self._file.read(-1 if n is None else n)

    def read_lines(self, n: int = -1) -> list[bytes]:
        """The next n lines, or all that are left, without their line ends."""
        lines: list[bytes] = []
        while n < 0 or len(lines) < n:
            line = self._file.readline()
            if not line:
                break
            lines.append(line.rstrip(b"\r\n"))
        return lines

    def whole(self) -> bytes:
        """All of it; what is read next stays the same."""
        position = self._file.tell()
        self._file.seek(0)
        data = self._file.read()
        self._file.seek(position)
        return data

    def rewind(self) -> None:
        """Back to the first byte."""
        self._file.seek(0)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; what io's wrappers read by."""
        return cast(int, self._file.readinto(buffer))  # type: ignore[attr-defined]

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another byte."""
        return self._file.seek(offset, whence)

    def close(self) -> None:
        """Close it; a temporary file is removed by the network side."""
        if not self.closed:
            self._file.close()
        super().close()


class ErrorStream:
    """`rook.errors`: writes to sys.stderr as it is at that moment."""

    def cat(self, *values: object, sep: str = " ", fill: bool = False) -> None:
        """Write the values, joined, as R's cat does; `fill` ends the line."""
        sys.stderr.write(sep.join(map(str, values)) + ("\n" if fill else ""))

    def write(self, text: str) -> int:
        """Write text."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush."""
        sys.stderr.flush()


class Request(Mapping[str, Any]):
    """A request: a read-only mapping with Rook's keys, made when they are asked for.

    Keys: REQUEST_METHOD, SCRIPT_NAME, PATH_INFO, QUERY_STRING, SERVER_NAME, SERVER_PORT,
    REMOTE_ADDR, REMOTE_PORT, CONTENT_TYPE and CONTENT_LENGTH when sent, HTTP_* for every other
    header, HEADERS, rook.version, rook.url_scheme, rook.input, rook.errors, httpuv.version.
    PATH_INFO is as sent, percent-encoded; QUERY_STRING has no "?". Main thread.
    """

    __slots__ = ("__dict__", "_body", "_fields", "_local", "_peer", "_target", "_version", "method")

    def __init__(self, head: RequestHead, body: RequestBody) -> None:
        self.method, self._target, self._version, self._fields, self._peer, self._local = head
        self._body = body
        if not isinstance(body, bytes):  # now: the file goes when the client leaves
            self.__dict__["input"] = InputStream(body)

    # -- Python's conveniences -----------------------------------------------------------------

    @functools.cached_property
    def headers(self) -> Headers:
        """The header fields, names without regard to case."""
        return Headers(self._fields)

    @functools.cached_property
    def raw_path(self) -> str:
        """The path as sent, percent-encoded."""
        return self._target.partition(b"?")[0].decode("latin-1")

    @functools.cached_property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8."""
        return unquote(self.raw_path)

    @functools.cached_property
    def query_string(self) -> str:
        """What stands behind the "?", undecoded."""
        return self._target.partition(b"?")[2].decode("latin-1")

    @functools.cached_property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded; of a repeated one the last. `query_lists` has all."""
        return {name: values[-1] for name, values in self.query_lists.items()}

    @functools.cached_property
    def query_lists(self) -> dict[str, list[str]]:
        """The query's parameters, decoded, each with all its values."""
        return parse_qs(self.query_string, keep_blank_values=True)

    @functools.cached_property
    def input(self) -> InputStream:
        """The body as a binary file (`rook.input`)."""
        return InputStream(self._body)

    @functools.cached_property
    def body(self) -> bytes:
        """The whole body in memory."""
        if isinstance(self._body, bytes):
            return self._body
        return self.input.whole()

    @property
    def text(self) -> str:
        """The body as text, by the charset of its Content-Type, else UTF-8.

        Raises:
            LookupError: there is no such charset.
            UnicodeDecodeError: the body is not in it.
        """
        charset = "utf-8"
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"')
        if codecs.lookup(charset).name in _NO_CHARSETS:
            raise LookupError(f"{charset!r} is no charset of a text")
        return self.body.decode(charset)

    def json(self) -> Any:
        """The body parsed as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        """The fields of an urlencoded or multipart form; of a repeated one the last.

        Raises:
            ValueError: the body is no form.
        """
        return {name: values[-1] for name, values in self._form[0].items()}

    def files(self) -> dict[str, list[Any]]:
        """The files of a multipart form: by field, each with filename, content_type and body.

        Raises:
            ValueError: the body is no form.
        """
        return self._form[1]

    @functools.cached_property
    def _form(self) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
        content_type = self.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() not in (
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ):
            raise ValueError(f"the body is no form; its Content-Type is {content_type!r}")
        arguments: dict[str, list[bytes]] = {}
        files: dict[str, list[Any]] = {}
        try:
            parse_body_arguments(content_type, self.body, arguments, files)
        except HTTPInputError as error:
            raise ValueError(f"the form cannot be read: {error}") from error
        return {name: [v.decode() for v in values] for name, values in arguments.items()}, files

    @functools.cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies that came along."""
        # http.cookies takes seconds for a quoted one in older Pythons (CVE-2024-7592).
        return parse_cookie(self.headers.get("cookie", ""))

    # -- Rook's environment --------------------------------------------------------------------

    def _environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = {key: make(self) for key, make in _ROOK.items()}
        for name, value in self.headers.items():
            environment[_rook_name(name)] = value
        return environment

    @functools.cached_property
    def _all(self) -> dict[str, Any]:
        return self._environment()

    def __getitem__(self, key: str) -> Any:
        make = _ROOK.get(key)
        if make is not None:
            return make(self)
        return self._all[key]

    def __contains__(self, key: object) -> bool:
        return key in _ROOK or key in self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<Request {self.method} {self._target.decode('latin-1')}>"

    def close(self) -> None:
        """Close what is open on disk; called when the response is out."""
        if "input" in self.__dict__:
            self.input.close()


# Codecs of Python that no client means; the first two take minutes for a megabyte.
_NO_CHARSETS = {"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"}


def _rook_name(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


_ERRORS = ErrorStream()
_ROOK: dict[str, Callable[[Request], Any]] = {
    "REQUEST_METHOD": lambda request: request.method,
    "SCRIPT_NAME": lambda request: "",
    "PATH_INFO": lambda request: request.raw_path,
    "QUERY_STRING": lambda request: request.query_string,
    "SERVER_NAME": lambda request: request._local[0],
    "SERVER_PORT": lambda request: request._local[1],
    "REMOTE_ADDR": lambda request: request._peer[0],
    "REMOTE_PORT": lambda request: request._peer[1],
    "HEADERS": lambda request: request.headers,
    "rook.version": lambda request: "1.1-0",
    "rook.url_scheme": lambda request: "http",
    "rook.input": lambda request: request.input,
    "rook.errors": lambda request: _ERRORS,
    "httpuv.version": lambda request: __version__,
}
