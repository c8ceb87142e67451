"""Programs without a prompt that the tests run, and what they say."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

# A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
PREAMBLE = """
import asyncio, os, signal, sys, threading, time
from httpuv_kernel import *
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(*words):
    print(*words, flush=True)

def say_port():
    say(list_servers()[0].port)
"""

APP = """
def app(request):
    if request.path == "/endless":
        say("spinning")
        while True:
            pass
    return {"body": "hello"}
"""


class Program:
    """A running script; what it says is read line by line."""

    def __init__(self, code: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *(arguments or ("-c", PREAMBLE + textwrap.dedent(code)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.end()[2]
        return line.strip()

    def port(self) -> int:
        return int(self.line())

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, timeout: float = 10.0) -> tuple[int, str, str]:
        """Wait for the end: exit code, stdout, stderr."""
        output, errors = self._process.communicate(timeout=timeout)
        return self._process.returncode, output, errors

    def kill(self) -> None:
        self._process.kill()
        with suppress(ValueError):  # its pipes are closed already
            self._process.communicate()


Run = Callable[..., Program]


def program_fixture() -> Any:
    """The fixture `run`: starts programs, which end with the test."""

    @pytest.fixture
    def run() -> Iterator[Run]:
        programs: list[Program] = []

        def start(code: str = "", *arguments: str) -> Program:
            programs.append(Program(code, *arguments))
            return programs[-1]

        yield start
        for program in programs:
            program.kill()

    return run


def run_server_with(run: Run, code: str = APP) -> tuple[Program, int]:
    serve = "later(say_port)\nrun_server('127.0.0.1', 0, app)"
    program = run(f"{textwrap.dedent(code)}\n{serve}")
    return program, program.port()
