"""Programs of the real world that read through the server: curl, wget, pyarrow over fsspec."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers import wait_until

from httpuv_kernel import start_server, static_path

pytestmark = pytest.mark.slow

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(root: Path, **options: object) -> str:
            app = {"static_paths": {"/": static_path(root, **options)}}
            server = start_server("127.0.0.1", 0, app, access_log=True)
            stack.enter_context(server)
            return server.url

        yield start


def program(name: str) -> str:
    """The path of a program of the system; with CI=true it must be there."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed; tests/setup_debian.sh does that"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def run(*command: object, status: int = 0) -> str:
    """Run a program without a proxy; what it wrote."""
    plain = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(
        [str(part) for part in command], env=plain, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_log(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in message for message in caplog.messages)


def wait_for_log(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A client may have its response before the line is written."""
    wait_until(lambda: in_log(caplog, text))


# -- curl --------------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Path) -> Path:
    (tmp_path / "pub").mkdir()
    path = tmp_path / "pub/big file.bin"
    path.write_bytes(os.urandom(5_000_000))
    return path


@pytest.mark.parametrize("have", [0, 1, 65_536, 2_500_000, 4_999_999])
@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_curl_resumes(
    serve: Serve, big: Path, tmp_path: Path, have: int, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(big.read_bytes()[:have])
    with caplog.at_level(logging.INFO, "httpuv_kernel.access"):
        run(program("curl"), "-sSf", "-C", "-", "-o", copy, serve(big.parent) + "big%20file.bin")
        wait_for_log(caplog, "GET /big%20file.bin 20")
    assert digest(copy) == digest(big)
    assert in_log(caplog, " 206 ") == (1 if have else 0)


def test_curl_finds_a_whole_download_complete(serve: Serve, big: Path, tmp_path: Path) -> None:
    """It takes 416 with the size that it has for complete."""
    copy = tmp_path / "copy"
    copy.write_bytes(big.read_bytes())
    run(program("curl"), "-sS", "-C", "-", "-o", copy, serve(big.parent) + "big%20file.bin")
    assert digest(copy) == digest(big)


def test_curl_resumes_only_the_same_version(serve: Serve, big: Path, tmp_path: Path) -> None:
    url = serve(big.parent) + "big%20file.bin"
    curl = program("curl")
    tag = run(curl, "-sSI", "-w", "%header{etag}", "-o", "/dev/null", url).strip()
    assert tag.startswith('"')
    ask = (curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-r", "100-", "-H")
    assert run(*ask, f"If-Range: {tag}", url) == "206"
    big.write_bytes(os.urandom(5_000_000))
    assert run(*ask, f"If-Range: {tag}", url) == "200"


def test_curl_asks_by_time_tag_and_coding(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>a page</p>\n" * 500)
    url = serve(tmp_path) + "page.html"
    curl = (program("curl"), "-sS")
    copy, tags = tmp_path / "copy", tmp_path / "tags"
    run(*curl, "-R", "-o", copy, url)
    assert int(copy.stat().st_mtime) == int((tmp_path / "page.html").stat().st_mtime)
    code = ("-o", "/dev/null", "-w", "%{http_code} %{size_download}")
    assert run(*curl, "-z", copy, *code, url) == "304 0"
    assert run(*curl, "--etag-save", tags, *code, url) == "200 7000"
    assert run(*curl, "--etag-compare", tags, *code, url) == "304 0"
    assert run(*curl, "--compressed", url) == "<p>a page</p>\n" * 500
    assert int(run(*curl, "--compressed", *code, url).split()[1]) < 700


def test_curl_gets_several_ranges_and_parallel_files(
    serve: Serve, big: Path, tmp_path: Path
) -> None:
    url = serve(big.parent)
    curl = (program("curl"), "-sSf")
    parts = run(*curl, "-r", "0-1,10-11,-2", "-o", tmp_path / "parts", "-w", "%{http_code}",
                url + "big%20file.bin")  # fmt: skip
    assert parts == "206"
    assert (tmp_path / "parts").read_bytes().count(b"Content-Range: bytes ") == 3
    for i in range(20):
        (big.parent / f"{i}.txt").write_bytes(b"%d" % i * 100_000)
    run(*curl, "--parallel", "--output-dir", tmp_path, "-O", url + "[0-19].txt")
    for i in range(20):
        assert digest(tmp_path / f"{i}.txt") == digest(big.parent / f"{i}.txt")


# -- wget --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [False, True])
def test_wget_mirrors_a_tree(serve: Serve, tmp_path: Path, hidden: bool) -> None:
    """By the links of the listings alone; what is hidden or outside stays here."""
    root, mirror = tmp_path / "tree", tmp_path / "mirror"
    wanted = {
        "a.txt": b"a",
        "b c/ünïcode 日本.txt": "日本".encode(),
        "b c/100%.csv": b"1,2\n" * 50_000,
        "deep/er/still/x.bin": os.urandom(300_000),
        "q?a=b&c.txt": b"q",
        "hash#tag.txt": b"h",
        "semi;colon+plus.txt": b"s",
        "zarr/.zarray": b"{}",
        "zarr/0.0": b"\0" * 10,
    }
    for name, content in wanted.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (root / "link").symlink_to("../secret.txt")
    (root / "empty").mkdir()
    url = serve(root, listing=True, hidden=hidden)
    run(program("wget"), "-q", "-r", "-np", "-nH", "-l", "inf", "-e", "robots=off",
        "--restrict-file-names=nocontrol", "--local-encoding=UTF-8",
        "-P", mirror, url)  # fmt: skip
    found = {
        str(path.relative_to(mirror)): path.read_bytes()
        for path in mirror.rglob("*")
        if path.is_file() and path.name != "index.html"
    }
    assert found == {
        name: content for name, content in wanted.items() if hidden or "/." not in name
    }


@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_wget_mirrors_again_only_what_changed(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, mirror = tmp_path / "tree", tmp_path / "mirror"
    root.mkdir()
    for i in range(5):
        (root / f"{i}.txt").write_text(f"{i}")
        os.utime(root / f"{i}.txt", (1_700_000_000, 1_700_000_000))
    url = serve(root, listing=True)
    mirroring = (program("wget"), "-q", "-m", "-np", "-nH", "-e", "robots=off", "-P", mirror, url)
    run(*mirroring)
    (root / "3.txt").write_text("three")
    with caplog.at_level(logging.INFO, "httpuv_kernel.access"):
        run(*mirroring)
        wait_until(lambda: in_log(caplog, ".txt ") == 5)
    assert (mirror / "3.txt").read_text() == "three"
    assert in_log(caplog, ".txt 304 ") == 4


def test_wget_continues(serve: Serve, big: Path, tmp_path: Path) -> None:
    copy = tmp_path / "big file.bin"
    copy.write_bytes(big.read_bytes()[:1_000_000])
    run(program("wget"), "-q", "-c", "-P", tmp_path, serve(big.parent) + "big%20file.bin")
    assert digest(copy) == digest(big)


# -- pyarrow -----------------------------------------------------------------------------------

READ_COLUMN = """
import sys
import fsspec
import pyarrow.parquet as parquet

with fsspec.open(sys.argv[1], block_size=2**16, cache_type="readahead") as file:
    table = parquet.ParquetFile(file, pre_buffer=False).read(columns=["wanted"])
print(table.num_rows, table.column_names, sum(table["wanted"].to_pylist()))
"""


@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_pyarrow_reads_one_column_by_ranges(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 16 MB in the file it asks for the footer and one column of 80 kB."""
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    from pyarrow import parquet

    rows = 10_000
    columns = {f"c{i}": [os.urandom(200) for _ in range(rows)] for i in range(8)}
    columns["wanted"] = list(range(rows))
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table(columns), path, compression="none")
    url = serve(tmp_path) + "table.parquet"
    with caplog.at_level(logging.INFO, "httpuv_kernel.access"):
        said = run(sys.executable, "-c", READ_COLUMN, url)
        wait_until(lambda: in_log(caplog, "/table.parquet 206 ") >= 2)
    assert said.split(maxsplit=1)[0] == str(rows)
    assert said.rsplit(maxsplit=1)[1] == str(sum(range(rows)))
    assert in_log(caplog, "GET /table.parquet 200 ") == 0
    assert path.stat().st_size > 16_000_000


def test_fsspec_lists_and_reads_a_directory(serve: Serve, tmp_path: Path) -> None:
    """It finds files by the links of a listing, as it does those of any web server."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    (tmp_path / "part").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    code = (
        "import sys, fsspec\n"
        "files = fsspec.filesystem('http')\n"
        "for url in sorted(files.ls(sys.argv[1], detail=False)):\n"
        "    print(url.replace('/./', '/'))\n"
        "    if not url.endswith('/'):\n"
        "        print(files.info(url)['size'], files.cat(url).decode())\n"
        "print(files.exists(sys.argv[1] + 'missing'))\n"
    )
    url = serve(tmp_path, listing=True)
    said = run(sys.executable, "-c", code, url).splitlines()
    wanted = [f"{url}a.csv", "5 a.csv", f"{url}b.csv", "5 b.csv", f"{url}part/", "False"]
    assert said == wanted
