"""Files that change while they are served, and what is kept of them."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers import Client, Closed, request, settle, wait_until

from httpuv_kernel import start_server
from httpuv_kernel.network.files import FileCache

# -- files that change ---------------------------------------------------------------------------


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
    """How often a file is open, in this process or in a network process."""
    found = 0
    this = psutil.Process()
    for process in [this, *this.children()]:
        for fd in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):  # the one that lists them
                found += os.readlink(fd).startswith(str(path))
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


def test_a_stopped_server_has_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 100_000)
    settle(tmp_path)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}) as server:
        with Client(server.port) as client:
            for _ in range(2):
                assert client.ask(target="/a.bin").status == 200
        assert descriptors_of(tmp_path) == 1
        with start_server("127.0.0.1", 0, {}):  # the network side goes on
            server.stop()
            assert descriptors_of(tmp_path) == 0


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
