"""Files on disk: which may be opened, of which type they are, and that what is sent is what is
there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import Client

from httpuv_kernel import start_server, static_path
from httpuv_kernel.media_types import is_compressible, media_type
from httpuv_kernel.network.files import (
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
