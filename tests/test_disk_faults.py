"""What goes wrong with disks: full, gone, and files that change while they are sent."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import Closed, Serving, configure, in_thread, request, run_until_idle, wait_until

from httpuv_kernel import Request
from httpuv_kernel.network.body import BodyBuffer

LARGE = 16 * 1024 * 1024


def size_of_body(request: Request) -> dict[str, object]:
    return {"body": str(len(request.body))}


# -- bodies of requests ----------------------------------------------------------------------------


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can be larger meanwhile: what a write gives is what a full disk gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 4096 + 1, 300_000 - 1], ids=["none", "some", "all but a byte"])
def test_a_full_disk_is_a_507_and_leaves_no_file(body_directory: Path, room: int) -> None:
    configure(spool_bytes=1000, isolation="thread")
    serving = Serving(size_of_body)
    with small_disk(room):
        reply = serving.ask("POST", body=bytes(300_000))
    assert (reply.status, reply.closes) == (507, True)
    wait_until(lambda: not list(body_directory.iterdir()))
    assert serving.ask("POST", body=bytes(300_000)).text == "300000"


def test_a_temporary_directory_that_is_gone_is_a_507(body_directory: Path) -> None:
    configure(spool_bytes=1000, isolation="thread")
    serving = Serving(size_of_body)
    body_directory.rmdir()
    assert serving.ask("POST", body=bytes(300_000)).status == 507
    body_directory.mkdir()
    assert serving.ask("POST", body=bytes(300_000)).text == "300000"


def test_a_spooled_body_may_be_read_once_its_file_is_gone(body_directory: Path) -> None:
    """As when its client leaves while the handler runs."""

    def app(request: Request) -> dict[str, object]:
        half = request.input.read(150_000)
        for path in body_directory.rglob("httpuv-body-*"):
            path.unlink()
        return {"body": f"{len(request.body)} {len(half)} {len(request.input.read())}"}

    configure(spool_bytes=1000)
    serving = Serving(app)
    assert serving.ask("POST", body=bytes(300_000)).text == "300000 150000 150000"


def test_a_body_that_is_gone_before_its_handler_runs_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its client has left, and the handler has nothing to do with that."""
    configure(isolation="thread")
    serving = Serving(size_of_body)
    monkeypatch.setattr(BodyBuffer, "finish", lambda self: ("/nowhere/body", 3))
    assert serving.ask("POST", body=b"abc").status == 500
    monkeypatch.undo()
    assert serving.ask("POST", body=b"abc").text == "3"
    assert "Traceback" not in capsys.readouterr().err


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Serving:
    (tmp_path / "f.bin").write_bytes(b"1" * LARGE)
    (tmp_path / "a.txt").write_text("a")
    return Serving({"static_paths": {"/": str(tmp_path)}})


def test_a_file_that_is_truncated_while_it_is_sent_is_cut(files: Serving, tmp_path: Path) -> None:
    with files.connect(receive_buffer=4096) as client:
        client.send(request(target="/f.bin"))
        assert in_thread(client.read_head)["content-length"] == str(LARGE)
        os.truncate(tmp_path / "f.bin", 100)
        with pytest.raises(Closed):
            in_thread(client.read_exactly, LARGE)
    assert files.ask(target="/f.bin").body == b"1" * 100


def test_a_file_that_is_replaced_while_it_is_sent_goes_out_as_it_was(
    files: Serving, tmp_path: Path
) -> None:
    with files.connect(receive_buffer=65536) as client:
        client.send(request(target="/f.bin"))
        in_thread(client.read_head)
        (tmp_path / "new").write_bytes(b"2" * 1000)
        os.replace(tmp_path / "new", tmp_path / "f.bin")
        assert in_thread(client.read_exactly, LARGE) == b"1" * LARGE
        assert in_thread(client.ask, "GET", "/f.bin").body == b"2" * 1000


def test_after_all_that_nothing_waits(files: Serving) -> None:
    """A client that leaves in the middle costs the next one nothing."""
    for _ in range(20):
        with files.connect() as client:
            client.send(request(target="/f.bin"))
            client.reset()
    run_until_idle(0.1)
    assert files.ask(target="/a.txt").text == "a"
    wait_until(lambda: files.server.status().connections <= 1)
