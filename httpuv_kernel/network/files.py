"""Files on disk: which may be opened, what tells their versions apart, and small ones kept in
memory.

Nothing here blocks on a FIFO or a device, and nothing outside a root is opened: the real path is
checked for the file that was opened, not for the one that was looked for.

Network side.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import zlib
from collections import OrderedDict
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from .conditional import Validators
from .framing import GZIP_LEVEL
from .sources import FileHandle, FileSource

__all__ = [
    "EXHAUSTED",
    "FileCache",
    "OpenedFile",
    "RegularFile",
    "failure_status",
    "is_safe_segment",
    "open_file",
    "safe_segments",
]

# Windows opens these whatever the folder and the extension (also with superscript digits).
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*|:.*)?", re.IGNORECASE
)
_DRIVE_OR_STREAM = re.compile(r"[A-Za-z]:|.*::|.*:\$")

KEPT_FILE_BYTES = 64 * 1024  # files up to this are kept; larger ones gain nothing
_KEPT_BYTES = 16 * 1024 * 1024
_KNOWN_FILES = 2048
_CHECKSUM_BYTES = 1024 * 1024
# Out of something that the system has only so much of.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PASSES = EXHAUSTED | {errno.EAGAIN}  # another program has it locked by a lease
# A path that names no file, and one that this process may not read.
_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENODEV,
        errno.ENXIO,  # a socket
        errno.EINVAL,  # no name on Windows
        errno.EILSEQ,  # no name on macOS
    }
)

_HELD_FILES = 32 if os.name == "posix" else 0  # Windows lets nobody delete what is open


def failure_status(error: OSError | ValueError) -> int:
    """What is answered when a file cannot be had. Pure.

    404 whether it is missing, outside or unreadable: who asks is not to know which. 503 for what
    passes, 500 for a failure of the disk.
    """
    if not isinstance(error, OSError):  # a name that the system has no bytes for
        return 404
    if error.errno in _PASSES:
        return 503
    return 404 if error.errno in _ABSENT else 500


def is_safe_segment(segment: str, *, hidden: bool, windows: bool = os.name == "nt") -> bool:
    """Whether a decoded path segment names something below its folder, on any system."""
    if not segment or segment in (".", "..") or "\\" in segment or "\0" in segment:
        return False
    if segment[0] == "." and not hidden and segment != ".well-known":
        return False
    if _DEVICE.fullmatch(segment) or _DRIVE_OR_STREAM.match(segment):
        return False
    return not (windows and (":" in segment or segment[-1] in ". "))


def safe_segments(rest: str, *, hidden: bool) -> list[str] | None:
    """The segments of what follows a prefix, without a trailing slash; None when one is not
    safe.
    """
    segments = rest.split("/")[1:]
    if segments and not segments[-1]:
        segments.pop()
    if all(is_safe_segment(segment, hidden=hidden) for segment in segments):
        return segments
    return None


def decode_path(target: bytes) -> str:
    """The path of a request target, percent-decoded once; bytes that are not UTF-8 survive."""
    path = target.partition(b"?")[0].decode("latin-1")
    return unquote(path, errors="surrogateescape") if "%" in path else path


class Signature(NamedTuple):
    """A file's identity and version as stat tells it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """ctime: a program that sets the time of a file it has written cannot set this one."""


def _signature(status: os.stat_result) -> Signature:
    return Signature(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _may_change_unseen(modified_ns: int) -> bool:
    """Whether a write right now could leave the time as it is: it has the grain of a clock's
    tick.
    """
    grain = 2_000_000_000 if modified_ns % 1_000_000_000 == 0 else 50_000_000
    return abs(time.time_ns() - modified_ns) < grain


class RegularFile:
    """A regular file that may be served, as it was when it was last looked at."""

    __slots__ = ("_gzip", "body", "path", "signature", "unsettled", "validators")

    def __init__(self, path: str, signature: Signature, body: bytes | None, checksum: int | None):
        self.path = path
        self.signature = signature
        self.body = body
        """Its content, when it is small."""
        self._gzip: bytes | None = None
        self.unsettled = checksum is not None
        """It is so new that it can change without a change of its time."""
        newest = max(signature.modified_ns, signature.changed_ns)
        tag = b"%x-%x-%x" % (newest, signature.size, signature.inode)
        if checksum is not None:
            tag += b"-%x" % checksum
        self.validators = Validators(b'"%s"' % tag, signature.modified_ns // 1_000_000_000)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.signature.size

    def is_still(self, status: os.stat_result) -> bool:
        """Whether this is the file, in the same version."""
        # Field by field: to make a Signature takes longer than all else that a request needs here.
        before = self.signature
        return (
            before.inode == status.st_ino
            and before.changed_ns == status.st_ctime_ns
            and before.modified_ns == status.st_mtime_ns
            and before.size == status.st_size
            and before.device == status.st_dev
            and not self.unsettled
        )

    @property
    def kept_bytes(self) -> int:
        """How much of it stays in memory."""
        return 0 if self.body is None else len(self.body)

    def gzip_body(self) -> bytes:
        """Its content compressed; of a small file only, made once."""
        assert self.body is not None
        if self._gzip is None:
            compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
            self._gzip = compressor.compress(self.body) + compressor.flush()
        return self._gzip


class OpenedFile(NamedTuple):
    """A regular file, and the handle to read it by when its content is not kept."""

    file: RegularFile
    handle: FileHandle | None


def _open_regular(path: str) -> tuple[FileHandle, os.stat_result]:
    """Open without waiting for a FIFO's other end.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = FileHandle(os.open(path, flags | getattr(os, "O_BINARY", 0)))
    status = os.fstat(handle.fd)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
    return handle, status


def _open_if_regular(path: str) -> tuple[FileHandle, os.stat_result]:
    """The same for a path that is not known to name a regular file: opening a device may act on it.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
    return _open_regular(path)


def open_file(path: str, *, unlink: bool = False) -> FileSource:
    """A file of the app's, to be sent whole.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    handle, status = _open_if_regular(path)
    return FileSource(handle, status.st_size, unlink=path if unlink else None)


def is_inside(path: str, root: str) -> bool:
    """Whether a real path is the real root or below it, by whole segments."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def real_path_allowed(root: str, segments: list[str], follow_symlinks: object) -> str | None:
    """The real path of what the segments name, when symbolic links may lead there."""
    target = os.path.join(root, *segments)
    real_root, real = os.path.realpath(root), os.path.realpath(target)
    if follow_symlinks is True:
        return real
    if follow_symlinks == "inside":
        return real if is_inside(real, real_root) else None
    return real if real == os.path.join(real_root, *segments) else None


def _opened_path(handle: FileHandle, path: str) -> str:
    """The path of the file that was opened; what a link was exchanged for meanwhile shows here."""
    try:
        return os.readlink(f"/proc/self/fd/{handle.fd}")
    except OSError:  # not Linux
        return os.path.realpath(path)


_Key: TypeAlias = tuple[str, object]  # the path, and whether links may lead there


class FileCache:
    """Opens files below roots and remembers what was found; every use looks at the file anew.

    Small files are remembered with their content, larger ones with their validators only, so that
    neither the sizes nor the number of files make it grow. A few larger ones stay open for a moment
    after they were sent: who asks for one often asks for parts of it, one after another.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, RegularFile] = OrderedDict()
        self._kept_bytes = 0
        self._open: dict[_Key, FileHandle] = {}
        self._asked: set[_Key] = set()  # since the last `rest`

    def reopen(self, path: str, follow_symlinks: object) -> OpenedFile | None:
        """A file that `open` has found at this path, if it still is the same; one or two stats."""
        key = path, follow_symlinks
        file = self._known.get(key)
        if file is None:
            return None
        try:
            if file.is_still(os.stat(path)):
                handle = self._held(key, file) if file.body is None else None
                if handle is not None or file.body is not None:
                    self._known.move_to_end(key)
                    return OpenedFile(file, handle)
        except OSError:
            pass
        if not file.unsettled:
            self._forget(key)
        return None

    def _held(self, key: _Key, file: RegularFile) -> FileHandle | None:
        """A handle of the file, if it still is the one whose path was checked.

        Raises:
            OSError: it cannot be opened.
        """
        handle = self._open.get(key)
        if handle is None:
            handle, status = _open_regular(file.path)
            if not file.is_still(status):
                return None
            if not _HELD_FILES:
                return handle
            if len(self._open) >= _HELD_FILES:
                del self._open[next(iter(self._open))]
            self._open[key] = handle
        self._asked.add(key)
        return handle

    def rest(self) -> None:
        """Called every second or so: close what nobody has asked for since, which may be deleted,
        and its disk space wanted.
        """
        for key in self._open.keys() - self._asked:
            del self._open[key]
        self._asked.clear()

    def close(self) -> None:
        """Keep nothing open; a response that is on its way keeps its own file so."""
        self._open.clear()

    def open(self, root: str, segments: list[str], follow_symlinks: object) -> OpenedFile | None:
        """Open what the segments name below a root; None when there is nothing to serve.

        Raises:
            OSError: there is, but it cannot be read, as `failure_status` says.
        """
        try:
            real = real_path_allowed(root, segments, follow_symlinks)
            if real is None:
                return None
            handle, status = _open_if_regular(real)
            if _opened_path(handle, real) not in (real, real + " (deleted)"):  # replaced since
                return None
            key = os.path.join(root, *segments), follow_symlinks
            return self._look_at(key, real, handle, status)
        except (OSError, ValueError) as error:
            if failure_status(error) != 404:
                raise
            return None

    def _look_at(
        self, key: _Key, real: str, handle: FileHandle, status: os.stat_result
    ) -> OpenedFile:
        signature = _signature(status)
        size = signature.size
        before = self._known.get(key)
        unsettled = _may_change_unseen(max(signature.modified_ns, signature.changed_ns))
        # A tag that was given with a checksum stays valid once the file has settled.
        checked = unsettled or (
            before is not None and before.signature == signature and before.unsettled
        )
        body = checksum = None
        if size <= KEPT_FILE_BYTES or (checked and size <= _CHECKSUM_BYTES):
            body = handle.read(size + 1, 0)
            if len(body) != size:  # it is being written: as it is now
                signature = signature._replace(size=len(body))
                unsettled = checked = True
            checksum = zlib.crc32(body) if checked else None
        file = RegularFile(real, signature, body, checksum)
        file.unsettled = unsettled
        known = file
        if body is not None and size > KEPT_FILE_BYTES:  # its tag is kept, its content not
            known = RegularFile(real, signature, None, checksum)
            known.unsettled = unsettled
        self._remember(key, known)
        return OpenedFile(file, handle if body is None else None)

    def _remember(self, key: _Key, file: RegularFile) -> None:
        self._forget(key)
        self._known[key] = file
        self._kept_bytes += file.kept_bytes
        while self._kept_bytes > _KEPT_BYTES or len(self._known) > _KNOWN_FILES:
            self._forget(next(iter(self._known)))

    def _forget(self, key: _Key) -> None:
        self._open.pop(key, None)
        file = self._known.pop(key, None)
        if file is not None:
            self._kept_bytes -= file.kept_bytes
