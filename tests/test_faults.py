"""What goes wrong around a server: descriptors, clocks, signals, forks, stalls.

Disks are in test_disk_faults.py; how a server is stopped is in test_stop.py.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from fuzz.harness import Peer
from helpers import (
    Client,
    Closed,
    Serving,
    configure,
    in_thread,
    request,
    wait_until,
)
from kernels import get, is_free

from httpuv_kernel import Request
from httpuv_kernel.network.loop import held_up

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts and limits of Linux")

LARGE = 16 * 1024 * 1024

# A server in a process of its own, which does what it is told.
PROGRAM = """
import ctypes, logging, os, sys, threading, time
now, jump = time.time, 0.0
time.time = lambda: now() + jump
if "asyncio" in sys.argv:
    sys.modules["uvloop"] = None
logging.basicConfig(format="LOG %(levelname)s %(name)s %(message)s", level=logging.INFO)
from httpuv_kernel import *
server = start_server("127.0.0.1", 0, {"static_paths": {"/": "."}})
print(server.port, flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Program:
    """That process, with its files in a directory."""

    def __init__(self, directory: Path, loop: str = "uvloop") -> None:
        (directory / "a.txt").write_text("a")
        (directory / "large.bin").write_bytes(bytes(LARGE))
        self._log = directory / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, loop],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def begin(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()

    def run(self, code: str) -> None:
        self.begin(code)
        self.read_until("done")

    def read_until(self, wanted: str) -> None:
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) != wanted + "\n":
            assert line, self.log

    def lets_wait(self, count: int) -> bool:
        """Whether so many clients can connect while nobody accepts them."""
        self.begin("print('held', flush=True); ctypes.PyDLL(None).usleep(300_000)")
        self.read_until("held")
        with ExitStack() as clients:
            try:
                for _ in range(count):
                    clients.enter_context(Client(self.port, timeout=0.1))
            except TimeoutError:
                return False
            finally:
                self.read_until("done")
        return True

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def cpu(self) -> float:
        """Seconds of the processor that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def program(directory: Path, loop: str = "uvloop") -> Iterator[Program]:
    found = Program(directory, loop)
    try:
        yield found
    finally:
        found.close()


# -- clients ---------------------------------------------------------------------------------------


def test_a_client_that_resets_while_its_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio's transport says so when it is to end what it sends, and not before."""
    peer = Peer()

    def write_eof() -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(peer.transport, "write_eof", write_eof)
    peer.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    assert peer.written.startswith(b"HTTP/1.1 400 ")
    assert peer.is_closed


@linux
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_vanishes_with_many_requests_leaves_no_warning(
    tmp_path: Path, loop: str
) -> None:
    """asyncio's transport warns of what is written behind the first that failed."""
    with program(tmp_path, loop) as server:
        with Client(server.port) as client:
            assert client.ask(target="/a.txt").text == "a"
            server.process.send_signal(signal.SIGSTOP)
            client.send(request(target="/a.txt") * 50)
            client.reset()
        server.process.send_signal(signal.SIGCONT)
        assert get(server.port, "/a.txt").text == "a"
        server.run("while server.status().connections: time.sleep(0.01)")
    assert "LOG WARNING" not in server.log


# -- descriptors -----------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_without_descriptors_it_waits_and_then_goes_on(tmp_path: Path, loop: str) -> None:
    with program(tmp_path, loop) as server:
        assert get(server.port, "/a.txt").text == "a"
        used = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 8, limits[1]))
        clients = []
        for _ in range(40):
            with suppress(OSError):
                clients.append(Client(server.port))
        before = server.cpu
        time.sleep(2)  # what it does in this time is counted
        assert server.cpu - before < 0.5
        for client in clients:
            client.socket.close()

        def answers() -> bool:
            try:
                return get(server.port, "/a.txt", timeout=2).text == "a"
            except (OSError, http.client.HTTPException):
                return False

        wait_until(answers, timeout=10)
        wait_until(lambda: server.lets_wait(50), timeout=10)
        assert "Traceback" not in server.log
        assert len(server.log.splitlines()) < 20


@linux
@pytest.mark.parametrize("descriptors", [15_000, 1024], ids=["enough", "too few"])
def test_ten_thousand_clients_against_the_limit_of_a_thousand(
    tmp_path: Path, descriptors: int
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 15_000:
        pytest.skip("this process may not open so many sockets")
    if descriptors < 10_000:
        pytest.importorskip(
            "uvloop", reason="without a descriptor asyncio lets clients wait, 1 s each"
        )
    with program(tmp_path) as server, Client(server.port) as kept, ExitStack() as clients:
        soft = resource.prlimit(0, resource.RLIMIT_NOFILE, (15_000, hard))[0]
        clients.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors, hard))
        most = 0
        for number in range(10_000):
            with suppress(ConnectionError):  # it was cut before it was set up
                clients.enter_context(Client(server.port))
            if number % 500 == 0:
                assert kept.ask(target="/a.txt").text == "a"
                most = max(most, len(os.listdir(f"/proc/{server.process.pid}/fd")))
        assert 1000 < most < 1000 + 200
        clients.close()
        wait_until(lambda: in_thread(get, server.port, "/a.txt").status == 200)
        wait_until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) < 50)
        assert "Traceback" not in server.log
        assert 0 < server.log.count("LOG WARNING") < 20


# -- stalls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "waits", "level", "cause"),
    [
        (1.5, 3000, logging.WARNING, "GIL"),
        (1.5, 300, logging.WARNING, "GIL"),
        (1.5, None, logging.WARNING, "GIL"),
        (1.5, 4, logging.INFO, "stopped"),
    ],
    ids=["short switches", "Python's own", "not counted", "it did not even wait"],
)
def test_the_likely_cause_of_a_stall(
    late: float, waits: int | None, level: int, cause: str
) -> None:
    found, text = held_up(late, waits)
    assert found == level
    assert "1.5 s" in text
    assert cause in text


@linux
def test_c_code_that_keeps_the_gil_is_named_once(tmp_path: Path) -> None:
    with program(tmp_path) as server:
        server.run("for _ in range(2): ctypes.PyDLL(None).usleep(2_200_000); time.sleep(0.2)")
        wait_until(lambda: "GIL" in server.log)
    assert server.log.count("LOG WARNING") == 1


@linux
def test_a_stopped_process_does_not_blame_the_gil(tmp_path: Path) -> None:
    with program(tmp_path) as server:
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(2.2)  # the fault itself
        server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "held up" in server.log)
        assert get(server.port, "/a.txt").text == "a"
    assert "GIL" not in server.log


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize("jump", [-86400.0, 86400.0 * 400], ids=["back", "ahead"])
def test_a_clock_that_jumps_ends_nothing(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    configure(isolation="thread")
    serving = Serving(lambda request: {"body": str(len(request.body))})
    now = time.time

    def talk(client: Client) -> list[str]:
        first = client.ask()["date"]
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        time.sleep(0.1)  # some heartbeats
        second = client.ask()["date"]
        monkeypatch.undo()
        return [first, second, client.ask("POST", body=b"abc").text]

    first, second, text = serving.run(talk)
    assert first != second
    assert text == "3"
    assert all(entry.seconds < 10 for entry in serving.server.log())


@linux
@pytest.mark.parametrize("jump", [-86400.0 * 400, 86400.0 * 400], ids=["back", "ahead"])
def test_nobody_is_too_late_or_held_up_because_a_clock_jumps(tmp_path: Path, jump: float) -> None:
    """Clients of every kind; the modules have the clock from the start."""
    with (
        program(tmp_path) as server,
        Client(server.port) as kept,
        Client(server.port) as half,
        Client(server.port, receive_buffer=4096) as slow,
    ):
        before = kept.ask(target="/a.txt")["date"]
        half.send(request(target="/a.txt")[:-2])
        slow.send(request(target="/large.bin"))
        slow.read_head()
        server.run(f"jump = {jump}; time.sleep(2.2)")  # two heartbeats
        reply = kept.ask(target="/a.txt")
        assert (reply.text, reply["date"][12:16] != before[12:16]) == ("a", True)  # its year
        half.send(b"\r\n")
        assert half.read_reply().text == "a"
        assert slow.read_exactly(LARGE) == bytes(LARGE)
        server.run("assert all(entry.seconds < 60 for entry in server.log())")
        assert "held up" not in server.log


# -- handlers that end more than themselves --------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit], ids=lambda each: each.__name__)
def test_an_error_that_is_to_end_the_program_is_a_500(
    error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    def app(request: Request) -> dict[str, object]:
        if request.path == "/end":
            raise error("the end")
        return {"body": "fine"}

    serving = Serving(app)
    assert serving.ask(target="/end").status == 500
    assert serving.ask().text == "fine"
    assert "the end" in capsys.readouterr().err


# -- the end, and copies, of the process -----------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [("sys.exit()", 0), ("os.kill(os.getpid(), 9)", -9), ("sys.exit(3)", 3)],
    ids=["exit", "SIGKILL", "a code of its own"],
)
def test_the_end_of_the_process_cuts_a_response(tmp_path: Path, code: str, status: int) -> None:
    with program(tmp_path) as server, Client(server.port, receive_buffer=4096) as client:
        client.send(request(target="/large.bin"))
        client.read_head()
        server.begin(code)
        assert server.process.wait(5) == status
        with pytest.raises(Closed):
            client.read_exactly(LARGE)
        assert is_free(server.port)
        assert "Traceback" not in server.log


@linux
def test_forks_at_any_moment(tmp_path: Path) -> None:
    """Children of both threads, while clients come and go: no answer is lost or wrong."""
    with program(tmp_path) as server:
        over, wrong, answered = threading.Event(), [], []

        def hammer() -> None:
            while not over.is_set():
                answer = get(server.port, "/a.txt", timeout=10)
                (answered if answer.text == "a" else wrong).append(answer)

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        fork = "[os._exit(len(list_servers())) if pid == 0 else os.waitpid(pid, 0)[1]"
        code = f"codes = {fork} for _ in range(40) for pid in [os.fork()]]; assert not any(codes)"
        server.run(f"exec({code!r})")
        server.run(f"t = threading.Thread(target=exec, args=({code!r}, globals()))")
        server.run("t.start(); t.join(); assert not any(codes)")
        over.set()
        for thread in threads:
            thread.join()
        assert len(answered) > 20
        assert wrong == []
        server.run("server.stop()")
        assert is_free(server.port)
        assert "Traceback" not in server.log
