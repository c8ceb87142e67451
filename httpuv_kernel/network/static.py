"""What a static path answers: httpuv's checks in their order, then the file.

`StaticSite` belongs to one table of static paths and is replaced with it.

Network side.
"""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from hmac import compare_digest
from html import escape

from ..fields import ResponseHead, response_head, status_line
from ..media_types import is_compressible, media_type
from ..static_paths import StaticRule, StaticTable
from .byteranges import ranges_answer
from .conditional import http_date, is_not_modified, precondition_fails, requested_ranges
from .exchange import Exchange, Reply
from .files import (
    KEPT_FILE_BYTES,
    FileCache,
    OpenedFile,
    RegularFile,
    decode_path,
    failure_status,
    real_path_allowed,
    safe_segments,
)
from .framing import accepted_codings, weak_etag
from .journal import Seldom
from .pages import accepts_html, error_reply, listing
from .sources import FileSource

__all__ = ["StaticSite"]

log = logging.getLogger("httpuv_kernel")

# The fields of a file that a 304 repeats (RFC 9110, section 15.4.5), and what CORS needs.
_KEPT_BY_304 = frozenset(
    {b"cache-control", b"content-location", b"expires", b"vary", b"access-control-allow-origin"}
)
# A precompressed sibling's extension by its content coding, the best first.
_SIBLINGS = ((b"br", ".br"), (b"zstd", ".zst"), (b"gzip", ".gz"))
_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Range, *",
    "Access-Control-Max-Age": "600",
}
# Fields that describe a file, and not the page that lists it.
_OF_A_FILE = frozenset({b"content-type", b"cache-control", b"content-disposition", b"etag"})
# jupyter-server-proxy 4.5 names itself, and takes the Location of a redirect for one of its root.
_PROXY = b"x-proxycontextpath"
_REFRESH = b'<!DOCTYPE html><meta http-equiv="refresh" content="0; url=%s">'
_CACHE_SIZE = 4096
_CACHED_PATH = 512


@dataclass(slots=True)
class _Target:
    """What a request's path names: a rule, and the safe segments below it."""

    rule: StaticRule
    segments: list[str]
    is_directory: bool
    """The path ends with a slash."""
    key: str
    """Where it is on disk, as far as links are not followed."""
    is_fallback: bool = False
    """Another path was asked for; what it gets depends on more than its path."""
    _head: ResponseHead | None = None
    _etag: bytes = b""

    def head_of(self, file: RegularFile) -> ResponseHead:
        """The head of the whole file, encoded once for each of its versions."""
        etag = file.validators.etag
        if self._head is None or self._etag != etag:
            self._head, self._etag = _file_head(self.rule, self.key, file), etag
        return self._head


class StaticSite:
    """Answers requests from one table of static paths."""

    def __init__(self, table: StaticTable, gzip_bytes: int) -> None:
        self.table = table
        self._gzip_bytes = gzip_bytes
        self._files = FileCache()
        self._notes = Seldom()
        # Targets that named a file, so that the next request for it need not take its path apart.
        self._resolved: dict[bytes, _Target] = {}

    def answer(self, exchange: Exchange) -> Reply | None:
        """The response; None when the request belongs to the app's handlers."""
        if exchange.facts.upgrade is not None:
            return None
        path = exchange.facts.target.partition(b"?")[0]
        resolved = self._resolved.get(path)
        try:
            if resolved is not None:
                refusal = self._refusal(resolved.rule, exchange)
                if refusal is not None:
                    return refusal
                opened = self._files.reopen(resolved.key, resolved.rule.follow_symlinks)
                if opened is not None:
                    return self._file_answer(resolved, opened, exchange)
            found = self.table.match(decode_path(path))
            if found is None or found[0].exclude:
                return None
            rule, rest = found
            return self._refusal(rule, exchange) or self._find(rule, rest, exchange)
        except OSError as error:
            return self._failure(error, path, exchange)

    def _failure(self, error: OSError, path: bytes, exchange: Exchange) -> Reply:
        """The answer when what should be served cannot be read."""
        if self._notes.is_due():
            log.error("a static file cannot be read: %s", error)
        status = failure_status(error)
        headers = {"Retry-After": "1"} if status == 503 else {}
        found = self.table.match(decode_path(path))
        assert found is not None
        return _error(found[0], exchange, status, text="this cannot be read", **headers)

    # -- the checks before the file ----------------------------------------------------------------

    def _refusal(self, rule: StaticRule, exchange: Exchange) -> Reply | None:
        if exchange.method == b"GET" and rule.validation is None and not exchange.facts.has_body:
            return None
        if rule.cors and _is_preflight(exchange):
            return Reply(response_head(204, _PREFLIGHT, None), b"")
        if rule.validation is not None and not _is_valid(rule.validation, exchange):
            return _error(rule, exchange, 403)
        if exchange.method not in (b"GET", b"HEAD"):
            return _error(rule, exchange, 405, Allow="GET, HEAD")
        if exchange.facts.has_body:
            return _error(rule, exchange, 400, text="a request for a file has no body")
        return None

    # -- finding ---------------------------------------------------------------------------------

    def _find(self, rule: StaticRule, rest: str, exchange: Exchange) -> Reply | None:
        segments = safe_segments(rest, hidden=rule.hidden)
        if segments is not None:
            key = os.path.join(rule.path, *segments)
            target = _Target(rule, segments, rest.endswith("/"), key)
            answer = self._look_up(target, exchange)
            if answer is not None:
                return answer
        if rule.fallthrough:
            return None
        if rule.spa and rest != "/" and _is_navigation(exchange):
            index = _Target(rule, [], True, rule.path, is_fallback=True)
            answer = self._look_up(index, exchange)
            if answer is not None:
                return answer
        return _error(rule, exchange, 404)

    def _look_up(self, target: _Target, exchange: Exchange) -> Reply | None:
        """The file, the index or the listing that a path names."""
        rule, segments = target.rule, target.segments
        try:
            real = real_path_allowed(rule.path, segments, rule.follow_symlinks)
            mode = 0 if real is None else os.stat(real).st_mode
        except (OSError, ValueError) as error:
            if failure_status(error) != 404:
                raise
            return None
        if real is None:
            return None
        if not stat.S_ISDIR(mode):
            # A single file that is a static path stands for its prefix, with or without a slash.
            if target.is_directory and segments:
                return None
            return self._open(target, exchange)
        if rule.indexhtml:
            index = os.path.join(target.key, "index.html")
            if os.path.lexists(index):
                indexed = _Target(
                    rule, [*segments, "index.html"], target.is_directory, index, target.is_fallback
                )
                answer = self._open(indexed, exchange, slash=not target.is_directory)
                if answer is not None:
                    return answer
        if not rule.listing:
            return None
        if not exchange.facts.target.partition(b"?")[0].endswith(b"/"):
            return _add_slash(target.rule, exchange)
        page = listing(rule, real, segments)
        return None if page is None else _page_answer(rule, page)

    def _open(self, target: _Target, exchange: Exchange, *, slash: bool = False) -> Reply | None:
        opened = self._files.open(target.rule.path, target.segments, target.rule.follow_symlinks)
        if opened is None:
            return None
        if slash and not exchange.facts.target.partition(b"?")[0].endswith(b"/"):
            return _add_slash(target.rule, exchange)
        path = exchange.facts.target.partition(b"?")[0]
        if not target.is_fallback and len(path) <= _CACHED_PATH:
            if len(self._resolved) >= _CACHE_SIZE:
                self._resolved.clear()
            self._resolved[path] = target
        return self._file_answer(target, opened, exchange)

    # -- the file --------------------------------------------------------------------------------

    def _file_answer(self, target: _Target, opened: OpenedFile, exchange: Exchange) -> Reply:
        file = opened.file
        head = target.head_of(file)
        if exchange.facts.is_conditional:
            reply = self._conditional_answer(target, opened, head, exchange)
            if reply is not None:
                return reply
        if file.body is not None:
            return Reply(head, file.body)
        assert opened.handle is not None
        return Reply(head, b"", FileSource(opened.handle, file.size))

    def _conditional_answer(
        self, target: _Target, opened: OpenedFile, head: ResponseHead, exchange: Exchange
    ) -> Reply | None:
        """The answer when the request has conditions; None: the whole file, as it is."""
        file, fields = opened.file, exchange.fields
        if precondition_fails(fields, file.validators):
            return _error(target.rule, exchange, 412)
        if is_not_modified(fields, file.validators):
            return self._not_modified(target.rule, head, file, exchange)
        if _has(exchange, b"range") and exchange.method == b"GET":
            ranges = requested_ranges(fields, file.size, file.validators)
            return None if ranges is None else Reply(*ranges_answer(head, opened, ranges))
        if _has(exchange, b"accept-encoding"):
            return self._encoded(target, opened, head, exchange)
        return None

    def _not_modified(
        self, rule: StaticRule, head: ResponseHead, file: RegularFile, exchange: Exchange
    ) -> Reply:
        """304 with the tag that the 200 would have, which is weak when that goes out compressed."""
        compressed = (
            head.compressible
            and file.size >= self._gzip_bytes
            and b"gzip" in accepted_codings(exchange.fields)
            and not _has(exchange, b"range")
        )
        etag = (b"W/" if compressed else b"") + file.validators.etag
        return _not_modified(rule, etag, varies=head.compressible and file.size >= self._gzip_bytes)

    def _encoded(
        self, target: _Target, opened: OpenedFile, head: ResponseHead, exchange: Exchange
    ) -> Reply | None:
        """The same file in a coding that the client accepts; None when it has none, or one to
        make.
        """
        accepted = accepted_codings(exchange.fields)
        for coding, extension in _SIBLINGS:
            if coding in accepted and target.segments:
                sibling = self._sibling(target, opened.file, extension)
                if sibling is not None:
                    return _sibling_answer(
                        target.rule, head, opened.file, sibling, coding, exchange
                    )
        body = opened.file.body
        if not (head.compressible and body is not None and b"gzip" in accepted):
            return None
        if not self._gzip_bytes <= len(body) <= KEPT_FILE_BYTES:
            return None  # not worth it, or made piece by piece
        return Reply(_encoded_head(head, b"gzip", weak=True), opened.file.gzip_body())

    def _sibling(self, target: _Target, original: RegularFile, extension: str) -> OpenedFile | None:
        """The precompressed file beside a file; it passes the same checks."""
        if not os.path.lexists(target.key + extension):
            return None
        segments = [*target.segments[:-1], target.segments[-1] + extension]
        sibling = self._files.open(target.rule.path, segments, target.rule.follow_symlinks)
        # What was compressed before the file was made anew would hide the new one.
        if (
            sibling is not None
            and sibling.file.signature.modified_ns < original.signature.modified_ns
        ):
            return None
        return sibling

    def rest(self) -> None:
        """Called every second or so; see `FileCache.rest`."""
        self._files.rest()

    def close(self) -> None:
        """Nothing is asked for any more."""
        self._files.close()


def _encoded_head(head: ResponseHead, coding: bytes, *, weak: bool = False) -> ResponseHead:
    block = weak_etag(head.block) if weak else head.block
    block += b"Content-Encoding: %s\r\nVary: Accept-Encoding\r\n" % coding
    return head._replace(block=block, compressible=False)


def _sibling_answer(
    rule: StaticRule,
    head: ResponseHead,
    original: RegularFile,
    sibling: OpenedFile,
    coding: bytes,
    exchange: Exchange,
) -> Reply:
    etag = sibling.file.validators.etag
    if _has(exchange, b"if-none-match") and is_not_modified(
        exchange.fields, sibling.file.validators
    ):
        return _not_modified(rule, etag, varies=True)
    encoded = _encoded_head(head, coding)
    encoded = encoded._replace(block=encoded.block.replace(original.validators.etag, etag, 1))
    if sibling.file.body is not None:
        return Reply(encoded, sibling.file.body)
    assert sibling.handle is not None
    return Reply(encoded, b"", FileSource(sibling.handle, sibling.file.size))


def _is_preflight(exchange: Exchange) -> bool:
    return exchange.method == b"OPTIONS" and _has(exchange, b"access-control-request-method")


def _is_valid(validation: tuple[str, str], exchange: Exchange) -> bool:
    name, wanted = validation[0].encode(), validation[1].encode()
    return any(field == name and compare_digest(value, wanted) for field, value in exchange.fields)


def _is_navigation(exchange: Exchange) -> bool:
    """Whether a browser wants to show this as a page, rather than use it in one."""
    for name, value in exchange.fields:
        if name == b"sec-fetch-mode":
            return value == b"navigate"
    return accepts_html(exchange.fields)


def _has(exchange: Exchange, wanted: bytes) -> bool:
    return any(name == wanted for name, _ in exchange.fields)


def _file_head(rule: StaticRule, name: str, file: RegularFile) -> ResponseHead:
    kind = media_type(name)
    if kind == "text/html":
        kind += f"; charset={rule.html_charset}" if rule.html_charset else ""
    elif kind.startswith("text/"):
        kind += "; charset=utf-8"  # else browsers guess, and rarely this
    lines = [b"%s: %s\r\n" % pair for pair in rule.headers]
    own = {field.lower(): value for field, value in rule.headers}
    if b"content-type" not in own:
        lines.append(b"Content-Type: %s\r\n" % kind.encode())
    if b"cache-control" not in own:
        lines.append(b"Cache-Control: no-cache\r\n")
    if b"x-content-type-options" not in own:
        lines.append(b"X-Content-Type-Options: nosniff\r\n")
    if b"accept-ranges" not in own:
        lines.append(b"Accept-Ranges: bytes\r\n")
    if b"etag" not in own:
        lines.append(b"ETag: %s\r\n" % file.validators.etag)
    if b"last-modified" not in own:
        lines.append(b"Last-Modified: %s\r\n" % http_date(file.validators.modified))
    compressible = is_compressible(own.get(b"content-type", kind.encode()))
    compressible = compressible and b"content-encoding" not in own
    dated = b"date" in own
    return ResponseHead(200, status_line(200), b"".join(lines), False, dated, compressible, None)


def _not_modified(rule: StaticRule, etag: bytes, *, varies: bool) -> Reply:
    lines = [b"%s: %s\r\n" % pair for pair in rule.headers if pair[0].lower() in _KEPT_BY_304]
    if not any(line.lower().startswith(b"cache-control:") for line in lines):
        lines.append(b"Cache-Control: no-cache\r\n")
    if varies:
        lines.append(b"Vary: Accept-Encoding\r\n")
    lines.append(b"ETag: %s\r\n" % etag)
    block = b"".join(lines)
    return Reply(ResponseHead(304, status_line(304), block, False, False, False, None), b"")


def _add_slash(rule: StaticRule, exchange: Exchange) -> Reply:
    """308 to the form with a slash, which the relative links of the page need.

    Relative, and of the last segment only: a Host or a proxy's prefix has no part in it, and
    nothing in it can be taken for an authority or a scheme.
    """
    path, mark, query = exchange.facts.target.partition(b"?")
    last = path.rpartition(b"/")[2]
    location = ((b"./" if b":" in last else b"") + last + b"/" + mark + query).decode("latin-1")
    if any(name == _PROXY for name, _ in exchange.fields) and accepts_html(exchange.fields):
        return _page_answer(rule, _REFRESH % escape(location).encode())
    return _error(rule, exchange, 308, Location=location)


def _error(
    rule: StaticRule, exchange: Exchange, status: int, *, text: str = "", **headers: str
) -> Reply:
    """An error that a page of another origin may see too, when it may see the files.

    A Zarr reader takes 404 for a chunk without data, and any hidden answer for a failure.
    """
    if rule.cors:
        headers["Access-Control-Allow-Origin"] = "*"
    return error_reply(exchange, status, headers, text=text)


def _page_answer(rule: StaticRule, page: bytes) -> Reply:
    """A listing, with the headers that the rule gives to its files."""
    lines = [b"%s: %s\r\n" % p for p in rule.headers if p[0].lower() not in _OF_A_FILE]
    lines.append(
        b"Content-Type: text/html; charset=utf-8\r\nCache-Control: no-cache\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
    )
    block = b"".join(lines)
    return Reply(ResponseHead(200, status_line(200), block, False, False, True, None), page)
