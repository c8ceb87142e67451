"""Files on disk: which may be opened, of which type they are, and that what is sent is what is
there.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import Client, Closed, request, wait_until

from httpuv_kernel import start_server, static_path
from httpuv_kernel.media_types import is_compressible, media_type
from httpuv_kernel.network.files import (
    FileCache,
    decode_path,
    is_safe_segment,
    real_path_allowed,
    safe_segments,
)

# -- segments ------------------------------------------------------------------------------------

SAFE = [
    "a", "a.txt", "a.b.c", "b c", " leading", "12:30.txt", "ab:c", "naïve", "日本", "~", "-", "%2e",
    "a%2fb", "a..b", "a..", "x.", "console", "com10", "lpt", "nulled.txt", "auxiliary", "my con",
    "conin", "a\nb", "\udcff", "<b>", ".well-known", "a" * 300,
]  # fmt: skip
# Names that Windows would open as something else; elsewhere they are as good as any.
UNSAFE_ON_WINDOWS = ["12:30.txt", "ab:c", "x.", "a..", "a ", "a. .", "trailing. "]
UNSAFE = [
    "", ".", "..", "\\", "a\\b", "..\\..", "\\\\host", "\0", "a\0", "a\0.txt", "c:", "C:", "C:a",
    "z:\\", "a::$DATA", "a.txt::$DATA", "a:$i30", "::$INDEX_ALLOCATION", "con", "CON", "Con.txt",
    "con ", "con  .txt", "con.", "prn", "aux", "aux.c", "nul", "NUL.txt", "NUL.tar.gz", "nul:x",
    "com0", "com1", "COM9.log", "com¹", "com²", "com³", "lpt0", "lpt1", "lpt9", "lpt¹", "lpt²",
    "lpt³.x", "conin$", "CONOUT$", "conout$.txt", "ab:$i30", "ab::b", "::",
]  # fmt: skip
HIDDEN = [".env", ".git", "..data", "...", ".zarray", ".well-known2", ".Well-Known"]


@pytest.mark.parametrize("segment", SAFE)
def test_safe_segment(segment: str) -> None:
    assert is_safe_segment(segment, hidden=False, windows=False)
    assert is_safe_segment(segment, hidden=False, windows=True) == (
        segment not in UNSAFE_ON_WINDOWS
    )


@pytest.mark.parametrize("segment", UNSAFE_ON_WINDOWS)
def test_segment_that_windows_reads_otherwise(segment: str) -> None:
    assert is_safe_segment(segment, hidden=False, windows=False)
    assert not is_safe_segment(segment, hidden=True, windows=True)


@pytest.mark.parametrize("segment", UNSAFE_ON_WINDOWS)
def test_it_is_this_system_that_counts(segment: str) -> None:
    assert is_safe_segment(segment, hidden=False) is (os.name != "nt")


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("segment", UNSAFE)
def test_unsafe_segment(segment: str, windows: bool, hidden: bool) -> None:
    assert not is_safe_segment(segment, hidden=hidden, windows=windows)


@pytest.mark.parametrize("segment", HIDDEN)
def test_hidden_segment(segment: str) -> None:
    assert not is_safe_segment(segment, hidden=False, windows=False)
    assert is_safe_segment(segment, hidden=True, windows=False)


@pytest.mark.parametrize(
    ("rest", "segments"),
    [
        ("", []),
        ("/", []),
        ("/a", ["a"]),
        ("/a/", ["a"]),
        ("/a/b.txt", ["a", "b.txt"]),
        ("//", None),
        ("//a", None),
        ("/a//", None),
        ("/a//b", None),
        ("/a/../b", None),
        ("/a/.", None),
        ("/a/nul/b", None),
        ("/.a/b", None),
        ("/a/.b", None),
        ("/.well-known/a", [".well-known", "a"]),
        ("/.well-known/.a", None),
    ],
)
def test_safe_segments(rest: str, segments: list[str] | None) -> None:
    assert safe_segments(rest, hidden=False) == segments


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a", "/a"),
        (b"/a?b=%41", "/a"),
        (b"/%41", "/A"),
        (b"/a%3fb?c", "/a?b"),
        (b"/%252e", "/%2e"),
        (b"/a+b", "/a+b"),
        (b"/%E6%97%A5", "/日"),
        (b"/%FF", "/\udcff"),
        (b"/%c0%ae", "/\udcc0\udcae"),
        (b"/%zz%", "/%zz%"),
        (b"/%00", "/\0"),
    ],
)
def test_a_target_is_decoded_once(target: bytes, path: str) -> None:
    assert decode_path(target) == path


# -- real paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segments", "inside", "everywhere", "nowhere"),
    [
        (["a"], "pub/a", "pub/a", "pub/a"),
        ([], "pub", "pub", "pub"),
        (["missing"], "pub/missing", "pub/missing", "pub/missing"),
        (["in"], "pub/a", "pub/a", None),
        (["out"], None, "pub2/b", None),
        (["dir", "b"], None, "pub2/b", None),
        (["up"], None, "", None),
        (["up", "pub", "a"], "pub/a", "pub/a", None),
        (["here", "a"], "pub/a", "pub/a", None),
        (["here", "here"], "pub", "pub", None),
    ],
)
@pytest.mark.parametrize("root", ["pub", "link"])
def test_real_path_allowed(
    tmp_path: Path,
    root: str,
    segments: list[str],
    inside: str | None,
    everywhere: str | None,
    nowhere: str | None,
) -> None:
    top = tmp_path.resolve()
    (top / "pub").mkdir()
    (top / "pub2").mkdir()
    (top / "pub/a").touch()
    (top / "pub2/b").touch()
    links = {"in": "a", "out": "../pub2/b", "dir": "../pub2", "up": "..", "here": "."}
    for name, goal in links.items():
        (top / "pub" / name).symlink_to(goal)
    (top / "link").symlink_to("pub")
    for follow, wanted in (("inside", inside), (True, everywhere), (False, nowhere)):
        found = real_path_allowed(str(top / root), segments, follow)
        assert found == (None if wanted is None else str(top / wanted)), follow


def test_a_file_may_be_a_root(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "a"
    path.touch()
    (tmp_path / "link").symlink_to("a")
    for follow in ("inside", True, False):
        assert real_path_allowed(str(path), [], follow) == str(path)
        assert real_path_allowed(str(tmp_path / "link"), [], follow) == str(path)


def test_all_is_below_the_root_of_the_system() -> None:
    assert real_path_allowed("/", ["dev", "null"], "inside") == "/dev/null"


# -- types ---------------------------------------------------------------------------------------

TYPES = {
    "a.html": "text/html; charset=utf-8",
    "a.htm": "text/html; charset=utf-8",
    "a.HTML": "text/html; charset=utf-8",
    "a.css": "text/css; charset=utf-8",
    "a.js": "text/javascript; charset=utf-8",
    "a.mjs": "text/javascript; charset=utf-8",
    "a.txt": "text/plain; charset=utf-8",
    "a.csv": "text/csv; charset=utf-8",
    "a.md": "text/markdown; charset=utf-8",
    "a.json": "application/json",
    "a.map": "application/json",
    "zarr.json": "application/json",
    ".zarray": "application/json",
    ".zattrs": "application/json",
    ".zgroup": "application/json",
    ".zmetadata": "application/json",
    "a.geojson": "application/geo+json",
    "a.webmanifest": "application/manifest+json",
    "a.ipynb": "application/x-ipynb+json",
    "a.wasm": "application/wasm",
    "a.parquet": "application/vnd.apache.parquet",
    "a.arrow": "application/vnd.apache.arrow.file",
    "a.feather": "application/vnd.apache.arrow.file",
    "a.pmtiles": "application/vnd.pmtiles",
    "a.png": "image/png",
    "a.jpg": "image/jpeg",
    "a.jpeg": "image/jpeg",
    "a.gif": "image/gif",
    "a.svg": "image/svg+xml",
    "a.webp": "image/webp",
    "a.avif": "image/avif",
    "a.tif": "image/tiff",
    "a.woff": "font/woff",
    "a.woff2": "font/woff2",
    "a.mp4": "video/mp4",
    "a.webm": "video/webm",
    "a.mp3": "audio/mpeg",
    "a.pdf": "application/pdf",
    "a.zip": "application/zip",
    "a.tar.gz": "application/gzip",
    "a.js.gz": "application/gzip",
    "a.js.br": "application/octet-stream",
    "a.unheard-of": "application/octet-stream",
    "Makefile-or-so": "application/octet-stream",
    "0.0.0": "application/octet-stream",
}


@pytest.mark.parametrize(("name", "kind"), TYPES.items())
def test_media_type(tmp_path: Path, name: str, kind: str) -> None:
    assert media_type(f"some/folder.html/{name}") == kind.partition(";")[0]
    (tmp_path / name).touch()
    with start_server(
        "127.0.0.1", 0, {"static_paths": {"/": static_path(tmp_path, hidden=True)}}
    ) as server, Client(server.port) as client:  # fmt: skip
        reply = client.ask(target=f"/{name}")
    assert (reply["content-type"], reply["x-content-type-options"]) == (kind, "nosniff")


@pytest.mark.parametrize(
    ("kind", "helps"),
    [
        ("text/html", True),
        ("text/plain; charset=utf-8", True),
        ("TEXT/CSS", True),
        ("application/json", True),
        ("application/geo+json", True),
        ("application/x-ipynb+json", True),
        ("application/wasm", True),
        ("image/svg+xml", True),
        ("text/event-stream", False),
        ("image/png", False),
        ("video/mp4", False),
        ("font/woff2", False),
        ("application/zip", False),
        ("application/octet-stream", False),
        ("application/vnd.apache.parquet", False),
        ("application/jsonx", False),
        ("", False),
    ],
)
def test_compressible(kind: str, helps: bool) -> None:
    assert is_compressible(kind.encode()) == helps


# -- files that change ---------------------------------------------------------------------------


def settle(root: Path) -> None:
    """Wait until no file below is brand-new: only then it is kept in memory, and its tag is short.

    The time of the last change cannot be set, unlike that of the last modification.
    """
    newest = max(path.lstat().st_ctime_ns for path in root.rglob("*"))
    wait_until(lambda: time.time_ns() - newest > 60_000_000)


def in_place(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


def by_rename(path: Path, content: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


@pytest.mark.parametrize("write", [in_place, by_rename])
@pytest.mark.parametrize(("size", "rounds"), [(40, 200), (100_000, 200), (2_000_000, 40)])
def test_a_rewritten_file_is_never_stale(
    tmp_path: Path, write: Callable[[Path, bytes], None], size: int, rounds: int
) -> None:
    """Of the same size, and again before the clock of the file system has ticked."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"-" * size)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            etag = client.ask(target="/a.bin")["etag"]
            for i in range(rounds):
                content = b"%08d" % i * (size // 8)
                write(path, content)
                reply = client.ask(target="/a.bin", headers=[("If-None-Match", etag)])
                assert (i, reply.status) == (i, 200)
                assert reply.body == content
                etag = reply["etag"]
            reply = client.ask(target="/a.bin", headers=[("If-None-Match", etag)])
            assert reply.status == 304


def test_a_rewritten_file_that_keeps_its_size_and_time(tmp_path: Path) -> None:
    """Reproducible builds and copies that preserve times leave size and time as they were."""
    path = tmp_path / "a.txt"
    then = (1_700_000_000, 1_700_000_000)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for i in range(20):
                path.write_bytes(b"version %02d" % i)
                os.utime(path, then)
                assert client.ask(target="/a.txt").body == b"version %02d" % i


@pytest.mark.parametrize("size", [0, 100, 100_000, 3_000_000])
def test_a_tag_outlives_the_first_moments_of_a_file(tmp_path: Path, size: int) -> None:
    """As long as nothing changes, a revalidation is a 304 and a download can be resumed."""
    (tmp_path / "a.bin").write_bytes(b"x" * size)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            tags = [client.ask(target="/a.bin")["etag"]]
            settle(tmp_path)
            for _ in range(3):
                reply = client.ask(target="/a.bin", headers=[("If-None-Match", tags[0])])
                assert (reply.status, reply["etag"]) == (304, tags[0])
            reply = client.ask(target="/a.bin", headers=[("If-Match", tags[0])])
            assert reply.status == 200


def test_a_tag_is_the_same_from_another_server(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    settle(tmp_path)
    tags = set()
    for _ in range(3):
        with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
            with Client(server.port) as client:
                tags.add(client.ask(target="/a.txt")["etag"])
    assert len(tags) == 1


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_file_that_is_replaced_all_the_time_is_always_there(tmp_path: Path, size: int) -> None:
    """A rename is atomic: each answer is the whole file before it or after it."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"0" * size)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client, ThreadPoolExecutor(1) as pool:
            is_over = False

            def replace() -> None:
                i = 0
                while not is_over:
                    i += 1
                    by_rename(path, b"%d" % (i % 10) * size)

            work = pool.submit(replace)
            try:
                for _ in range(1000):
                    reply = client.ask(target="/a.bin")
                    assert (reply.status, len(reply.body)) == (200, size)
                    assert len(set(reply.body)) == 1
            finally:
                is_over = True
                work.result()


def test_a_file_truncated_while_it_is_sent_cuts_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 50_000_000)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port, receive_buffer=8192) as client:
            client.send(request(target="/a.bin"))
            assert client.read_head()["content-length"] == "50000000"
            client.read_exactly(100)
            os.truncate(path, 1000)
            with pytest.raises(Closed):
                client.read_exactly(50_000_000 - 100)
        with Client(server.port) as client:
            assert len(client.ask(target="/a.bin").body) == 1000


@pytest.mark.parametrize("how", ["replaced", "removed", "grown"])
def test_a_file_is_sent_as_it_was_opened(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 20_000_000)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port, receive_buffer=8192) as client:
            client.send(request(target="/a.bin"))
            client.read_head()
            if how == "replaced":
                by_rename(path, b"new")
            elif how == "removed":
                path.unlink()
            else:
                os.truncate(path, 30_000_000)
            assert client.read_exactly(20_000_000) == b"x" * 20_000_000
            reply = client.ask("HEAD", "/a.bin")
            wanted = {"replaced": "3", "grown": "30000000"}
            assert (reply.status, reply["content-length"]) == (
                (404, reply["content-length"]) if how == "removed" else (200, wanted[how])
            )


def test_a_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for i in range(5):
                assert client.ask(target="/a.txt").status == 404
                path.write_bytes(b"%d" % i)
                assert client.ask(target="/a.txt").body == b"%d" % i
                path.unlink()
            path.mkdir()
            (path / "index.html").write_bytes(b"a folder now")
            assert client.ask(target="/a.txt").status == 308
            assert client.ask(target="/a.txt/").body == b"a folder now"


def test_an_index_that_goes_and_comes_back(tmp_path: Path) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for _ in range(3):
                (tmp_path / "index.html").write_bytes(b"here")
                settle(tmp_path)
                assert client.ask().body == b"here"
                assert client.ask().body == b"here"
                (tmp_path / "index.html").unlink()
                assert client.ask().status == 404


def test_a_file_that_becomes_a_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a")
    settle(tmp_path)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            assert client.ask(target="/a.txt").status == 200
            path.unlink()
            os.mkfifo(path)
            assert client.ask(target="/a.txt").status == 404


# -- what is kept --------------------------------------------------------------------------------


def test_memory_is_bounded_whatever_the_number_of_files(tmp_path: Path) -> None:
    """3,000 files of 40 kB are 120 MB, of which 16 MiB may stay."""
    root = str(tmp_path.resolve())
    for i in range(3000):
        (tmp_path / f"{i}").touch()
        os.truncate(tmp_path / f"{i}", 40_000)
    settle(tmp_path)
    cache = FileCache()
    tracemalloc.start()
    try:
        for i in range(3000):
            opened = cache.open(root, [f"{i}"], "inside")
            assert opened is not None
            assert opened.file.body == bytes(40_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1_000_000 < kept < 20_000_000
    assert cache.reopen(f"{root}/2999", "inside") is not None
    assert cache.reopen(f"{root}/0", "inside") is None


def test_memory_does_not_grow_with_long_queries(tmp_path: Path) -> None:
    """What only differs in its query is one file."""
    (tmp_path / "a.txt").write_bytes(b"a")
    settle(tmp_path)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            client.ask(target="/a.txt")
            tracemalloc.start()
            try:
                for i in range(1000):
                    assert client.ask(target=f"/a.txt?{i}" + "q" * 50_000).status == 200
                kept, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert kept < 10_000_000


def test_a_large_file_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    os.truncate(tmp_path / "a.bin", 200_000_000)
    settle(tmp_path)
    opened = FileCache().open(str(tmp_path.resolve()), ["a.bin"], "inside")
    assert opened is not None
    assert opened.file.body is None
    assert opened.handle is not None


def test_descriptors_are_closed(tmp_path: Path) -> None:
    """Whatever the answer is made of."""
    (tmp_path / "a.bin").write_bytes(b"x" * 100_000)
    (tmp_path / "a.bin.gz").write_bytes(b"y" * 100_000)
    settle(tmp_path)
    asked = [
        [],
        [("Range", "bytes=0-0")],
        [("Range", "bytes=0-0,9-9")],
        [("Range", "bytes=900000-")],
        [("If-None-Match", "*")],
        [("If-Match", '"x"')],
        [("Accept-Encoding", "gzip")],
        [("Accept-Encoding", "gzip"), ("If-None-Match", "*")],
    ]
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for _ in range(2):
                for headers in asked:
                    for method in ("GET", "HEAD"):
                        client.ask(method, "/a.bin", headers)
                before = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                for headers in asked:
                    for method in ("GET", "HEAD"):
                        client.ask(method, "/a.bin", headers)
            assert len(os.listdir("/proc/self/fd")) <= before


# -- what stays open -----------------------------------------------------------------------------


def descriptors_of(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(str(path))
    return found


def settled_files(folder: Path, count: int) -> tuple[str, list[str]]:
    """The folder's real path, and names of files in it that are too large to be kept in memory."""
    names = [f"{number}.bin" for number in range(count)]
    for name in names:
        (folder / name).touch()
        os.truncate(folder / name, 100_000)
    settle(folder)
    return str(folder.resolve()), names


def test_a_file_stays_open_while_it_is_asked_for(tmp_path: Path) -> None:
    root, (name,) = settled_files(tmp_path, 1)
    cache = FileCache()
    cache.open(root, [name], "inside")
    for _ in range(3):
        assert cache.reopen(f"{root}/{name}", "inside") is not None
        assert descriptors_of(tmp_path / name) == 1
        cache.rest()
    assert descriptors_of(tmp_path / name) == 1
    cache.rest()
    assert descriptors_of(tmp_path / name) == 0


def test_a_few_files_stay_open(tmp_path: Path) -> None:
    root, names = settled_files(tmp_path, 100)
    cache = FileCache()
    for name in names:
        cache.open(root, [name], "inside")
        cache.reopen(f"{root}/{name}", "inside")
    assert descriptors_of(tmp_path) == 32


def test_a_deleted_file_is_let_go_of(tmp_path: Path) -> None:
    """Its disk space is wanted back, also while nothing is asked for."""
    (tmp_path / "a.bin").write_bytes(b"x" * 100_000)
    settle(tmp_path)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for _ in range(2):
                assert client.ask(target="/a.bin").status == 200
            assert descriptors_of(tmp_path) == 1
            (tmp_path / "a.bin").unlink()
            wait_until(lambda: descriptors_of(tmp_path) == 0)


def test_a_file_that_is_written_anew_is_opened_anew(tmp_path: Path) -> None:
    """In place, with the same size and the time set back; and as another file."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"1" * 100_000)
    settle(tmp_path)
    status = path.stat()
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for _ in range(2):
                assert client.ask(target="/a.bin").body == b"1" * 100_000
            path.write_bytes(b"2" * 100_000)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert client.ask(target="/a.bin").body == b"2" * 100_000
            (tmp_path / "new").write_bytes(b"3" * 100_000)
            os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
            (tmp_path / "new").replace(path)
            assert client.ask(target="/a.bin").body == b"3" * 100_000
