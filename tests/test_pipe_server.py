"""Unix domain sockets: start_pipe_server (manual: startPipeServer, PipeServer)."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import Client, Reply, during, request
from websockets.sync.client import unix_connect

from httpuv_kernel import (
    InvalidAddressError,
    PipeServer,
    PortInUseError,
    PortPermissionError,
    StartError,
    list_servers,
    start_pipe_server,
    static_path,
    stop_server,
)
from httpuv_kernel.main import pipe_server


def hello(request: object) -> dict[str, object]:
    return {"body": "hello"}


def ask(path: str, target: str = "/") -> Reply:
    def run() -> Reply:
        with Client(path) as client:
            return client.ask("GET", target)

    return during(run)


@pytest.fixture
def name(tmp_path: Path) -> str:
    return str(tmp_path / "app.sock")


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_request(name: str) -> None:
    server = start_pipe_server(name, None, hello)
    assert ask(name).body == b"hello"
    assert isinstance(server, PipeServer)
    assert server.name == name
    assert server.mask is None
    assert list_servers() == [server]


def test_the_environment_of_a_request(name: str) -> None:
    seen = {}

    def app(request: dict[str, object]) -> dict[str, object]:
        seen.update(request)
        return {}

    start_pipe_server(name, None, app)
    ask(name)
    assert seen["REMOTE_ADDR"] == ""
    assert seen["REMOTE_PORT"] == ""


def test_static_paths(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from disk")
    (tmp_path / "big.bin").write_bytes(bytes(3_000_000))
    start_pipe_server(name, None, {"static_paths": {"/": static_path(tmp_path)}})
    assert ask(name, "/a.txt").body == b"from disk"
    assert ask(name, "/big.bin").body == bytes(3_000_000)


def test_a_websocket(name: str) -> None:
    start_pipe_server(
        name,
        None,
        {"on_ws_open": lambda ws: ws.on_message(lambda binary, message: ws.send(message[::-1]))},
    )

    def client() -> str | bytes:
        with unix_connect(name, "ws://localhost/") as socket:
            socket.send("abc")
            return socket.recv(5)

    assert during(client) == "cba"


def test_curl(name: str) -> None:
    start_pipe_server(name, None, hello)
    command = ["curl", "-sS", "--unix-socket", name, "http://any.example/"]
    found = during(lambda: subprocess.run(command, capture_output=True, timeout=10, check=True))
    assert found.stdout == b"hello"


def test_its_url(name: str) -> None:
    server = start_pipe_server(name, None, hello)
    assert server.url == "http+unix://" + name.replace("/", "%2F") + "/"
    assert server.url in repr(server)


@pytest.mark.parametrize(
    ("mask", "permissions"),
    [(0o777, 0o000), (0o117, 0o660), (0o077, 0o700), (0, 0o777)],
    ids=oct,
)
def test_the_mask_takes_permissions_away(name: str, mask: int, permissions: int) -> None:
    before = os.umask(0o022)
    try:
        server = start_pipe_server(name, mask, hello)
        assert mode(name) == permissions
        assert server.mask == mask
    finally:
        left = os.umask(before)
    assert left == 0o022


@pytest.mark.parametrize("mask", [None, -1])
def test_without_a_mask_the_umask_holds(name: str, mask: int | None) -> None:
    before = os.umask(0o027)
    try:
        start_pipe_server(name, mask, hello)
        assert mode(name) == 0o750
    finally:
        os.umask(before)


def test_stop_removes_the_file(name: str) -> None:
    server = start_pipe_server(name, None, hello)
    stop_server(server)
    assert not os.path.exists(name)
    assert not server.is_running
    server.stop()


def test_stop_leaves_what_another_program_has_put_there(name: str) -> None:
    server = start_pipe_server(name, None, hello)
    os.unlink(name)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(name)
        server.stop()
        assert os.path.exists(name)


def test_the_same_name_again(name: str) -> None:
    for _ in range(3):
        with start_pipe_server(name, None, hello):
            assert ask(name).body == b"hello"


def test_a_stale_file_is_replaced(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(name)
        gone.listen()
    start_pipe_server(name, None, hello)
    assert ask(name).body == b"hello"


def test_a_socket_with_a_full_queue_is_not_stale(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(name)
        busy.listen(0)
        client.connect(name)
        with pytest.raises(PortInUseError, match="another program"):
            start_pipe_server(name, None, hello)
        assert os.path.exists(name)


def test_a_live_one_of_this_process(name: str) -> None:
    start_pipe_server(name, None, hello)
    with pytest.raises(PortInUseError, match="a server of this process"):
        start_pipe_server(name, None, hello)
    assert ask(name).body == b"hello"


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file"])
def test_what_is_no_socket_is_never_deleted(name: str, tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        os.mkdir(name)
    elif kind == "file":
        Path(name).write_text("precious")
    else:
        (tmp_path / "target").write_text("precious")
        os.symlink(tmp_path / "target", name)
    with pytest.raises(StartError, match="no socket; it is left as it is"):
        start_pipe_server(name, None, hello)
    assert os.path.isdir(name) or Path(name).read_text() == "precious"


@pytest.mark.parametrize(
    ("bad", "mask", "text"),
    [
        ("", None, "path of a socket"),
        (7, None, "path of a socket"),
        ("a\0b", None, "path of a socket"),
        ("/tmp/" + "x" * 120, None, "at most 103 bytes"),
        ("/tmp/x.sock", "022", "mask is None"),
        ("/tmp/x.sock", 0o1777, "mask is None"),
        ("/tmp/x.sock", True, "mask is None"),
    ],
    ids=["empty", "a number", "NUL", "too long", "mask as text", "mask too large", "mask a bool"],
)
def test_arguments_that_cannot_be(bad: object, mask: object, text: str) -> None:
    with pytest.raises(InvalidAddressError, match=text):
        start_pipe_server(bad, mask, hello)  # type: ignore[arg-type]


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="does not exist"):
        start_pipe_server(tmp_path / "none" / "x.sock", None, hello)
    assert list_servers() == []


def test_a_directory_that_may_not_be_written_to(name: str) -> None:
    error = pipe_server._start_error(PermissionError(13, "Permission denied"), name)
    assert isinstance(error, PortPermissionError)
    assert name in str(error)


def test_a_relative_name_becomes_the_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = start_pipe_server("x.sock", None, hello)
    assert server.name == str(tmp_path / "x.sock")


def test_where_there_are_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(NotImplementedError, match="start_server"):
        start_pipe_server(name, None, hello)


def test_the_end_of_the_program_removes_the_file(name: str) -> None:
    program = (
        f"from httpuv_kernel import *\nstart_pipe_server({name!r}, None, lambda request: {{}})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert not os.path.exists(name)


def test_a_forked_child_leaves_the_file(name: str) -> None:
    program = (
        "import os\nfrom httpuv_kernel import *\n"
        f"start_pipe_server({name!r}, None, lambda request: {{}})\n"
        "if os.fork() == 0:\n    stop_all_servers()\n    raise SystemExit\n"
        f"os.wait()\nprint(os.path.exists({name!r}))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    found = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True)
    assert found.stdout == "True\n"
    assert not os.path.exists(name)


def test_two_at_once_and_many_clients(tmp_path: Path) -> None:
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    for each in names:
        start_pipe_server(each, None, lambda request, each=each: {"body": each})
    clients = [Client(path) for path in names * 20]
    for client in clients:
        client.send(request())
    found = during(lambda: [client.read_reply().text for client in clients])
    for client in clients:
        client.socket.close()
    assert found == names * 20
    assert threading.active_count() < 100
