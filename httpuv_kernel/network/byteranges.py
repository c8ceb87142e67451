"""Responses that are parts of a file: 206 and 416 (RFC 9110, sections 14 and 15.3.7).

Network side.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from ..fields import ResponseHead, status_line
from .files import OpenedFile
from .sources import PIECE_BYTES, BodySource, FileHandle, FileSource

__all__ = ["ranges_answer"]

_CONTENT_TYPE = re.compile(rb"(?mi)^Content-Type: ([^\r]*)\r\n")
_boundaries = itertools.count(1)


def ranges_answer(
    head: ResponseHead, opened: OpenedFile, ranges: list[tuple[int, int]]
) -> tuple[ResponseHead, bytes, BodySource | None]:
    """The answer with these parts of a file; an empty list is 416."""
    size = opened.file.size
    if not ranges:
        block = b"Content-Range: bytes */%d\r\n" % size
        return _changed(head, 416, block + _CONTENT_TYPE.sub(b"", head.block)), b"", None
    if len(ranges) > 1:
        return _multipart_answer(head, opened, ranges)
    first, end = ranges[0]
    block = head.block + _content_range(first, end, size)
    partial = _changed(head, 206, block)
    if opened.file.body is not None:
        return partial, opened.file.body[first:end], None
    assert opened.handle is not None
    return partial, b"", FileSource(opened.handle, end - first, first=first)


def _multipart_answer(
    head: ResponseHead, opened: OpenedFile, ranges: list[tuple[int, int]]
) -> tuple[ResponseHead, bytes, BodySource | None]:
    boundary = b"httpuv-%d-%x" % (next(_boundaries), opened.file.signature.modified_ns)
    match = _CONTENT_TYPE.search(head.block)
    kind = match[1] if match is not None else b"application/octet-stream"
    size = opened.file.size
    separators = [
        b"\r\n--%s\r\nContent-Type: %s\r\n%s\r\n"
        % (boundary, kind, _content_range(first, end, size))
        for first, end in ranges
    ]
    tail = b"\r\n--%s--\r\n" % boundary
    block = _CONTENT_TYPE.sub(b"", head.block)
    block += b"Content-Type: multipart/byteranges; boundary=%s\r\n" % boundary
    partial = _changed(head, 206, block)
    body = opened.file.body
    if body is not None:
        parts = [
            text + body[first:end] for text, (first, end) in zip(separators, ranges, strict=True)
        ]
        return partial, b"".join([*parts, tail]), None
    assert opened.handle is not None
    return partial, b"", _RangesSource(opened.handle, separators, ranges, tail)


def _content_range(first: int, end: int, size: int) -> bytes:
    return b"Content-Range: bytes %d-%d/%d\r\n" % (first, end - 1, size)


def _changed(head: ResponseHead, status: int, block: bytes) -> ResponseHead:
    return head._replace(status=status, line=status_line(status), block=block, compressible=False)


class _RangesSource(BodySource):
    """The parts of a multipart body."""

    __slots__ = ("_pieces",)

    def __init__(
        self,
        handle: FileHandle,
        separators: list[bytes],
        ranges: list[tuple[int, int]],
        tail: bytes,
    ) -> None:
        parts = sum(end - first for first, end in ranges)
        super().__init__(sum(map(len, separators)) + parts + len(tail))
        self._pieces = _read_parts(handle, separators, ranges, tail)

    def read(self) -> bytes:
        """The next piece."""
        piece = next(self._pieces, b"")
        self.left -= len(piece)
        return piece

    def close(self) -> None:
        """Let go of the file."""
        self._pieces = iter(())


def _read_parts(
    handle: FileHandle,
    separators: list[bytes],
    ranges: list[tuple[int, int]],
    tail: bytes,
) -> Iterator[bytes]:
    for separator, (first, end) in zip(separators, ranges, strict=True):
        yield separator
        while first < end:
            piece = handle.read(min(PIECE_BYTES, end - first), first)
            if not piece:
                return
            first += len(piece)
            yield piece
    yield tail
