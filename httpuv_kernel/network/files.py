"""Files: what a static path answers, and the bodies that the main side leaves on disk.

Network side.
"""

from __future__ import annotations

import os
import stat
from hmac import compare_digest
from typing import BinaryIO

from ..fields import ResponseHead, response_head, status_line
from ..media_types import is_compressible, media_type
from ..static_paths import StaticRule, StaticTable
from .exchange import BodySource, Exchange

__all__ = ["open_file", "static_response"]

StaticAnswer = tuple[ResponseHead, bytes, "BodySource | None"]


def open_file(path: str, *, unlink: bool = False) -> BodySource:
    """Open a regular file to be sent.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    file, status = _open_regular(path)
    return BodySource(file, status.st_size, unlink=path if unlink else None)


def _open_regular(path: str) -> tuple[BinaryIO, os.stat_result]:
    # O_NONBLOCK: opening a FIFO must not wait for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(f"not a regular file: {path!r}")
        return os.fdopen(handle, "rb", buffering=0), status
    except BaseException:
        os.close(handle)
        raise


def static_response(table: StaticTable, exchange: Exchange) -> StaticAnswer | None:
    """What a static path answers; None when the request belongs to the app's handlers.

    The checks and their order are httpuv's: upgrade, longest prefix, exclusion, validation, method,
    body, file.
    """
    facts = exchange.facts
    if facts.upgrade is not None:
        return None
    path = facts.target.partition(b"?")[0].decode("latin-1")
    found = table.match(path)
    if found is None or found[0].exclude:
        return None
    rule, rest = found
    if rule.validation is not None and not _is_valid(rule.validation, exchange):
        return _text(403)
    if exchange.method not in (b"GET", b"HEAD"):
        return _text(405, {"Allow": "GET, HEAD"})
    if facts.has_body:
        return _text(400, text="a request for a file has no body")
    answer = _file_answer(rule, path, rest)
    if answer is None:
        return None if rule.fallthrough else _text(404)
    return answer


def _is_valid(validation: tuple[str, str], exchange: Exchange) -> bool:
    name, wanted = validation[0].encode(), validation[1].encode()
    return any(field == name and compare_digest(value, wanted) for field, value in exchange.fields)


def _text(status: int, headers: dict[str, str] | None = None, *, text: str = "") -> StaticAnswer:
    line = status_line(status)[9:-2] + (b": " + text.encode() if text else b"") + b"\n"
    all_headers = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
    return response_head(status, all_headers, None), line, None


def _is_safe(segment: str) -> bool:
    return not (
        segment in ("", ".", "..")
        or (segment.startswith(".") and segment != ".well-known")
        or "\\" in segment
        or "\0" in segment
        or ":" in segment
    )


def _file_answer(rule: StaticRule, path: str, rest: str) -> StaticAnswer | None:
    """The file under a rule, or its index; None when there is none that may be served."""
    segments = rest.split("/")[1:] if rest.startswith("/") else []
    wants_directory = bool(segments) and segments[-1] == ""
    if wants_directory:
        segments.pop()
    if not all(map(_is_safe, segments)):
        return None
    target = os.path.join(rule.path, *segments)
    root = os.path.realpath(rule.path)
    try:
        if os.path.isdir(target):
            if not rule.indexhtml or not os.path.isfile(os.path.join(target, "index.html")):
                return None
            if not path.endswith("/"):
                # Relative links of the index need the slash; relative, so that no proxy is in its
                # way.
                return _text(308, {"Location": path.rpartition("/")[2] + "/"})
            target = os.path.join(target, "index.html")
        elif wants_directory:
            return None
        real = os.path.realpath(target)
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            return None
        file, status = _open_regular(real)
    except (OSError, ValueError):
        return None
    return _head(rule, target), b"", BodySource(file, status.st_size)


def _head(rule: StaticRule, name: str) -> ResponseHead:
    kind = media_type(name)
    if kind == "text/html" and rule.html_charset:
        kind = f"text/html; charset={rule.html_charset}"
    elif kind.startswith("text/"):
        kind = f"{kind}; charset=utf-8"
    block, has_type, has_cache = rule.headers
    if not has_type:
        block += b"Content-Type: %s\r\n" % kind.encode()
    if not has_cache:
        block += b"Cache-Control: no-cache\r\n"
    block += b"X-Content-Type-Options: nosniff\r\n"
    compressible = not has_type and is_compressible(kind.encode())
    return ResponseHead(200, status_line(200), block, False, False, compressible, None)
