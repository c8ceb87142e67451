"""Where handlers' output goes: Server.output, and the limit of a flood."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest
from helpers import Serving, configure

from httpuv_kernel import later, run_now
from httpuv_kernel.main.runtime import close_runtime


def noisy(request: object) -> dict[str, object]:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return {}


def failing(request: object) -> dict[str, object]:
    print("before")
    raise ZeroDivisionError("on purpose")


def test_to_a_logger(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.INFO)
    serving = Serving(noisy)
    serving.server.output = logging.getLogger("my.app")
    serving.ask()
    records = [(record.name, record.levelname, record.message) for record in caplog.records]
    assert records == [("my.app", "INFO", "to stdout"), ("my.app", "ERROR", "to stderr")]
    assert capsys.readouterr() == ("", "")


def test_a_traceback_to_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    serving = Serving(failing)
    serving.server.output = logging.getLogger("my.app")
    assert serving.ask().status == 500
    assert "GET / failed" in caplog.text
    assert "ZeroDivisionError: on purpose" in caplog.text


def test_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    serving = Serving(failing)
    serving.server.output = None
    assert serving.ask().status == 500
    assert capsys.readouterr() == ("", "")


def test_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    serving = Serving(noisy)
    serving.server.output = file
    serving.ask()
    assert file.getvalue() == "to stdout\nto stderr\n"
    assert capsys.readouterr() == ("", "")


def test_to_a_widget() -> None:
    got: list[tuple[str, str]] = []
    widget = SimpleNamespace(
        append_stdout=lambda text: got.append(("stdout", text)),
        append_stderr=lambda text: got.append(("stderr", text)),
        append_display_data=got.append,
    )
    serving = Serving(noisy)
    serving.server.output = widget
    serving.ask()
    assert got == [("stdout", "to stdout\n"), ("stderr", "to stderr\n")]


def test_back_to_the_cell(capsys: pytest.CaptureFixture[str]) -> None:
    serving = Serving(noisy)
    serving.server.output = None
    serving.server.output = serving.server.cell_output
    serving.ask()
    assert capsys.readouterr() == ("to stdout\n", "to stderr\n")


def test_a_coroutine_handler() -> None:
    async def handler(request: object) -> dict[str, object]:
        print("in a coroutine")
        return {}

    file = io.StringIO()
    serving = Serving(handler)
    serving.server.output = file
    serving.ask()
    assert file.getvalue() == "in a coroutine\n"


def test_what_cannot_be_an_output() -> None:
    serving = Serving(noisy)
    with pytest.raises(TypeError, match=r"ipywidgets\.Output, a logger, a file, or None"):
        serving.server.output = 7
    assert serving.server.output is serving.server.cell_output


# -- floods ----------------------------------------------------------------------------------------


def test_a_flood_is_cut_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    configure(output_limit=100)
    close_runtime()
    later(lambda: [print("x" * 30) for _ in range(50)])
    while run_now():
        pass
    later(lambda: print("later"))
    while run_now():
        pass
    out = capsys.readouterr().out
    assert out.count("x") == 120
    assert out.count("nothing more is shown (HTTPUV.output_limit)") == 1
    assert "later" not in out


def test_what_is_not_a_handlers_is_not_limited(capsys: pytest.CaptureFixture[str]) -> None:
    configure(output_limit=10)
    close_runtime()
    later(lambda: print("y" * 20))
    while run_now():
        pass
    print("z" * 500)
    assert capsys.readouterr().out.count("z") == 500


def test_a_handler_may_put_its_own_stream_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    before, mine = sys.stdout, io.StringIO()

    def replace() -> None:
        sys.stdout = mine

    later(replace)
    run_now()
    try:
        assert sys.stdout is mine
    finally:
        sys.stdout = before
