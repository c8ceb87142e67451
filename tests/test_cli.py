"""The command line, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import Client, wait_until
from kernels import free_port, is_free

from httpuv_kernel import __version__, interrupt, later
from httpuv_kernel.__main__ import main

pytestmark = pytest.mark.slow


class Program:
    """The command line with its terminal."""

    def __init__(self, *arguments: object, cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "httpuv_kernel", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, **env},
        )
        self.banner: list[str] = []

    def line(self) -> str:
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line, "it has ended"
        return line.rstrip("\n")

    def urls(self) -> list[str]:
        """Read the banner; the URLs in it."""
        while not self.banner or "Ctrl-C" not in self.banner[-1]:
            self.banner.append(self.line())
        return [line.strip() for line in self.banner if line.strip().startswith("http://")]

    def end(self, number: int | None = signal.SIGINT) -> tuple[int, str, str]:
        """Exit code, and what was written to stdout and stderr since."""
        if number is not None:
            self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=15)
        return self.process.returncode, output, errors


Run = Callable[..., Program]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "site"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("this is a")
    (root / ".env").write_text("hidden")
    (root / "sub/index.html").write_text("an index")
    return root


@pytest.fixture
def run(site: Path) -> Iterator[Run]:
    programs: list[Program] = []

    def start(*arguments: object, **env: str) -> Program:
        programs.append(Program(*arguments, cwd=site, env=env))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        with suppress(ValueError):
            program.process.communicate()


def port_of(url: str) -> int:
    match = re.search(r":(\d+)/", url)
    assert match is not None
    return int(match[1])


def test_it_serves_a_directory_until_ctrl_c(run: Run, site: Path) -> None:
    program = run(site, "--port", 0)
    (url,) = program.urls()
    assert program.banner[0] == f"Serving {site}"
    port = port_of(url)
    assert url == f"http://127.0.0.1:{port}/"
    with Client(port) as client:
        assert client.ask(target="/a.txt").text == "this is a"
        assert "a.txt" in client.ask().text  # a listing
        assert client.ask(target="/.env").status == 404
        assert client.ask(target="/sub")["location"] == "sub/"
        assert client.ask("POST", "/a.txt").status == 405
        code, output, errors = program.end()
    assert (code, output) == (0, "")
    lines = [re.sub(r"^[\d:]{8} (.*) [\d.]+ ms$", r"\1", line) for line in errors.splitlines()]
    assert lines == [
        "127.0.0.1 GET /a.txt 200",
        "127.0.0.1 GET / 200",
        "127.0.0.1 GET /.env 404",
        "127.0.0.1 GET /sub 308",
        "127.0.0.1 POST /a.txt 405",
        "",
        "stopped",
    ]
    assert is_free(port)


def test_the_current_directory_and_one_file(run: Run) -> None:
    here, file = run("--port", 0), run("a.txt", "--port", 0)
    for program, target in ((here, "/a.txt"), (file, "/")):
        (url,) = program.urls()
        with Client(port_of(url)) as client:
            assert client.ask(target=target).text == "this is a"


def test_options(run: Run) -> None:
    program = run(
        ".", "--port", 0, "--no-listing", "--cors", "--spa", "--hidden",
        "--header", "X-One: 1: a", "--header=X-Two:2",
    )  # fmt: skip
    with Client(port_of(program.urls()[0])) as client:
        reply = client.ask(target="/a.txt")
        assert (reply["x-one"], reply["x-two"]) == ("1: a", "2")
        assert reply["access-control-allow-origin"] == "*"
        assert client.ask().status == 404
        assert client.ask(target="/.env").text == "hidden"


def test_spa(run: Run, site: Path) -> None:
    (site / "index.html").write_text("the app")
    program = run("--port", 0, "--spa")
    with Client(port_of(program.urls()[0])) as client:
        assert client.ask(target="/x/y", headers=[("Accept", "text/html")]).text == "the app"
        assert client.ask(target="/x/y").status == 404


def test_token(run: Run) -> None:
    program = run("--port", 0, "--token")
    (url,) = program.urls()
    match = re.fullmatch(r"http://127\.0\.0\.1:\d+(/[\w-]{22,}/)", url)
    assert match is not None
    with Client(port_of(url)) as client:
        assert client.ask(target=match[1] + "a.txt").text == "this is a"
        assert client.ask(target="/a.txt").status == 403
    code, _, errors = program.end()
    assert code == 0
    assert match[1].strip("/") not in errors  # the access log does not tell it
    assert "GET /a.txt 200" in errors
    assert " 403" in errors


def test_quiet_is_silent(run: Run, site: Path) -> None:
    port = free_port()
    program = run(site, "--port", port, "--quiet")
    wait_until(lambda: not is_free(port), 15)
    with Client(port) as client:
        assert client.ask(target="/a.txt").status == 200
        assert client.ask(target="/missing").status == 404
    assert program.end() == (0, "", "")
    assert is_free(port)


def test_sigterm_frees_the_port_without_a_traceback(run: Run) -> None:
    program = run("--port", 0)
    port = port_of(program.urls()[0])
    code, _, errors = program.end(signal.SIGTERM)
    assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in errors
    assert is_free(port)


def test_ctrl_c_while_a_file_is_sent(run: Run, site: Path) -> None:
    (site / "big").touch()
    os.truncate(site / "big", 100_000_000)
    program = run("--port", 0)
    with Client(port_of(program.urls()[0]), receive_buffer=8192) as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.read_head().status == 200
        code, _, errors = program.end()
    assert code == 0
    assert "Traceback" not in errors


def test_a_wildcard_is_announced_with_every_address_and_a_warning(run: Run) -> None:
    program = run("--host", "0.0.0.0", "--port", 0)
    urls = program.urls()
    port = port_of(urls[0])
    assert urls[0] == f"http://127.0.0.1:{port}/"
    assert all(url.endswith(f":{port}/") for url in urls)
    assert len(set(urls)) == len(urls)
    assert "everyone" in "".join(program.banner)
    assert program.end()[0] == 0


def test_a_wildcard_with_a_token_needs_no_warning(run: Run) -> None:
    program = run("--host", "0.0.0.0", "--port", 0, "--token")
    urls = program.urls()
    assert len({url.split("/", 3)[3] for url in urls}) == 1
    assert "everyone" not in "".join(program.banner)


def test_the_default_port(run: Run) -> None:
    """7446, or another one when something else has it."""
    was_free = is_free(7446)
    ports = [port_of(run().urls()[0]) for _ in range(2)]
    assert ports[0] != ports[1]
    assert 7446 in ports or not was_free


def test_open(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {tmp_path}/opened\n')
    script.chmod(0o755)
    program = run("--port", 0, "--open", BROWSER=f"{script} %s")
    (url,) = program.urls()
    wait_until(lambda: (tmp_path / "opened").exists(), 15)
    assert program.end()[0] == 0
    assert (tmp_path / "opened").read_text() == url


@pytest.mark.parametrize("browser", ["false %s", "/no/such/browser %s"])
def test_open_without_a_browser_serves_on(run: Run, browser: str) -> None:
    program = run("--port", 0, "--open", BROWSER=browser, DISPLAY="", WAYLAND_DISPLAY="")
    with Client(port_of(program.urls()[0])) as client:
        assert client.ask(target="/a.txt").status == 200
    code, _, errors = program.end()
    assert code == 0
    assert "Traceback" not in errors


def test_a_browser_that_raises_fails_nothing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise OSError("no display")

    monkeypatch.setattr("webbrowser.open", fail)
    cancel = later(interrupt)
    try:
        assert main([str(site), "--port", "0", "--open", "--quiet"]) == 0
    finally:
        cancel()


# -- what cannot work ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such/directory"], "/no/such/directory"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--host", "192.0.2.1", "--port", "0"], "192.0.2.1"),
        (["--port", "0", "--header", "X Y: z"], "X Y"),
    ],
)
def test_exit_code_1(run: Run, arguments: list[str], said: str) -> None:
    """One line that says why."""
    code, output, errors = run(*arguments).end(None)
    assert (code, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("httpuv-kernel: ")
    assert said in line


def test_a_port_in_use(run: Run) -> None:
    port = port_of(run("--port", 0).urls()[0])
    code, _, errors = run("--port", port).end(None)
    assert code == 1
    assert str(port) in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("port", ["-1", "65536", "99999999"])
def test_a_port_out_of_range(run: Run, port: str) -> None:
    code, _, errors = run(f"--port={port}").end(None)
    assert code in (1, 2)
    assert "65535" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [["--port", "x"], ["--port"], ["--nonsense"], ["a", "b"], ["--header", "no colon"],
     ["--header"], ["--listing=1"]],
)  # fmt: skip
def test_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("usage: httpuv-kernel")


def test_help_teaches(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in (
        "DIR", "--host", "--port", "--no-listing", "--cors", "--header", "--spa", "--hidden",
        "--token", "--open", "--quiet", "--version",
    ):  # fmt: skip
        assert option in text
    assert "examples:" in text
    assert "7446" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split()[-1] == __version__
