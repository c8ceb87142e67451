"""Files that are there and cannot be read: out of descriptors, a disk that fails, no permission."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, Reply, Serving, Work, configure, in_thread, request, wait_until
from kernels import get

from httpuv_kernel import static_path
from httpuv_kernel.network import files, pages
from httpuv_kernel.network.files import failure_status
from httpuv_kernel.network.sources import FileHandle

HTML = [("Accept", "text/html")]


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened meanwhile; what is open stays so, and poll() needs some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    configure(isolation="thread")  # it is this process that has no descriptors
    for name in ("a.txt", "page/index.html", "folder/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("content")
    (tmp_path / "large.bin").write_bytes(bytes(1_000_000))
    rule = static_path(tmp_path, listing=True, cors=True)
    return Serving(
        {
            "call": lambda request: {"body": {"file": tmp_path / request.path[1:]}},
            "static_paths": {
                "/f": rule,
                "/through": static_path(tmp_path, fallthrough=True),
                "/spa": static_path(tmp_path / "page", spa=True),
            },
        }
    )


def ask_in_want(client: Client, target: str, headers: list[tuple[str, object]]) -> Reply:
    with no_descriptors():
        client.send(request(target=target, headers=headers))
        return Work(client.read_reply).finish()


@pytest.mark.parametrize("headers", [[], HTML], ids=["program", "browser"])
@pytest.mark.parametrize("is_known", [False, True], ids=["new", "asked before"])
@pytest.mark.parametrize(
    "target",
    ["/f/large.bin", "/f/page/", "/f/folder/", "/through/a.txt", "/spa/x", "/large.bin"],
    ids=["file", "index", "listing", "fallthrough", "spa", "the app's file"],
)
def test_without_descriptors_a_file_is_a_503(
    serving: Serving, target: str, is_known: bool, headers: list[tuple[str, object]]
) -> None:
    headers = [*headers, ("Sec-Fetch-Mode", "navigate")]
    with serving.connect() as client:
        wait_until(lambda: serving.server.status().connections)
        if is_known:
            assert Work(client.ask, "GET", target, headers).finish().status == 200
        reply = ask_in_want(client, target, headers)
        assert (reply.status, reply["retry-after"]) == (503, "1")
        assert reply.all("access-control-allow-origin") == (["*"] if "/f/" in target else [])
        assert Work(client.ask, "GET", target, headers).finish().status == 200


def test_without_descriptors_an_error_page_is_a_line(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template cannot be read, if none was before."""
    pages._templates.cache_clear()
    with serving.connect() as client:
        wait_until(lambda: serving.server.status().connections)
        reply = ask_in_want(client, "/f/none", HTML)
        assert (reply.status, reply.text) == (404, "404 Not Found\n")
        assert reply["content-type"] == "text/plain; charset=utf-8"
        reply = Work(client.ask, "GET", "/f/none", HTML).finish()
        assert (reply.status, reply["content-type"]) == (404, "text/html; charset=utf-8")


def test_without_descriptors_a_body_that_needs_a_file_is_a_503(serving: Serving) -> None:
    with serving.connect() as client:
        wait_until(lambda: serving.server.status().connections)
        with no_descriptors():
            client.send(request("POST", "/post", body=bytes(2_000_000)))
            reply = Work(client.read_reply).finish()
    assert (reply.status, reply["retry-after"], reply.closes) == (503, "1", True)


ERRORS = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EACCES: 404,
    errno.EPERM: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    errno.ENXIO: 404,
    errno.ENODEV: 404,
    errno.EINVAL: 404,
    errno.EILSEQ: 404,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    errno.ENOMEM: 503,
    errno.ENOBUFS: 503,
    errno.EAGAIN: 503,
    errno.EIO: 500,
    errno.ESTALE: 500,
    errno.EOVERFLOW: 500,
}
names = pytest.mark.parametrize("number", ERRORS, ids=lambda number: errno.errorcode[number])


@names
def test_the_status_of_an_error(number: int) -> None:
    assert failure_status(OSError(number, "")) == ERRORS[number]


def test_a_name_that_cannot_be_encoded_is_a_404() -> None:
    assert failure_status(UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates")) == 404


# What is done with a file until it is sent, and a target for which that is done.
STEPS = {
    "stat": ("/f/a.txt", files.os, "stat"),
    "open": ("/f/a.txt", files.os, "open"),
    "fstat": ("/f/a.txt", files.os, "fstat"),
    "read": ("/f/a.txt", FileHandle, "read"),
    "scandir": ("/f/folder/", files.os, "scandir"),
}


def fail_on_the_network_side(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int
) -> None:
    do = getattr(owner, name)

    def fails(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "httpuv-io":
            raise OSError(number, os.strerror(number))
        return do(*args, **options)

    monkeypatch.setattr(owner, name, fails)


@names
@pytest.mark.parametrize("step", STEPS)
def test_an_error_is_answered_and_the_connection_goes_on(
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    number: int,
) -> None:
    target, owner, name = STEPS[step]
    with serving.connect() as client:
        fail_on_the_network_side(monkeypatch, owner, name, number)
        replies = [in_thread(client.ask, "GET", target) for _ in range(20)]
        monkeypatch.undo()
        missing = in_thread(client.ask, "GET", "/f/none")
        assert {reply.status for reply in replies} == {ERRORS[number]}
        assert os.strerror(number) not in replies[0].text
        assert (replies[0].body == missing.body) is (ERRORS[number] == 404)
        assert in_thread(client.ask, "GET", target).status == 200
    # A disk that fails is worth a line, but not one for each request.
    assert (0 < caplog.text.count(os.strerror(number)) < 5) is (ERRORS[number] != 404)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOENT, 500), (errno.EIO, 500), (errno.ENFILE, 503)]
)
def test_a_file_of_the_app_s_that_is_gone_is_its_fault(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    """It was there when the app named it."""
    with serving.connect() as client:
        fail_on_the_network_side(monkeypatch, files.os, "open", number)
        assert Work(client.ask, "GET", "/large.bin").finish().status == status
        monkeypatch.undo()
        assert Work(client.ask, "GET", "/large.bin").finish().status == 200


# -- while it is sent ------------------------------------------------------------------------------

LARGE = 16 * 1024 * 1024
WAYS: dict[str, list[tuple[str, object]]] = {
    "whole": [],
    "compressed": [("Accept-Encoding", "gzip")],
    "a range": [("Range", f"bytes=1000-{LARGE - 1}")],
    "two ranges": [("Range", f"bytes=0-{LARGE // 2},{LARGE // 2 + 9}-{LARGE - 1}")],
}


def truncate(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(path, 1000)


def break_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_the_network_side(monkeypatch, files.os, "sendfile", errno.EIO)
    fail_on_the_network_side(monkeypatch, FileHandle, "read", errno.EIO)


@pytest.mark.parametrize("fault", [truncate, break_disk])
@pytest.mark.parametrize("way", WAYS)
def test_a_response_that_cannot_be_completed_is_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    way: str,
    fault: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    configure(isolation="thread")
    (tmp_path / "f.txt").write_bytes(os.urandom(LARGE))
    serving = Serving({"static_paths": {"/": tmp_path}})
    with serving.connect(receive_buffer=4096) as client:
        client.send(request(target="/f.txt", headers=WAYS[way]))
        head = in_thread(client.read_head)
        fault(tmp_path / "f.txt", monkeypatch)
        got = in_thread(client.read_all)
        monkeypatch.undo()
    if way == "compressed":
        assert head["transfer-encoding"] == "chunked"
        assert not got.endswith(b"0\r\n\r\n")
    else:
        assert len(got) < int(head["content-length"])
    assert caplog.text.count("a response was cut") == 1
    assert in_thread(get, serving.port, "/f.txt").status == 200
