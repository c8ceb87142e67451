"""The magics in real kernels: cells that are run again, what is left, completion by message."""

from __future__ import annotations

import http.client
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import websocket
from helpers import wait_until
from kernels import Kernel, ask, get, is_free, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

LOAD = "%load_ext httpuv_kernel\n"
THREADS = "sorted(thread.name for thread in threading.enumerate())"
PORT = "list_servers()[0].port"

APP_CELL = """\
%%%%httpuv_app live --port 0
def call(request):
    print("asked", %(text)r)
    return {"body": %(text)r}
def on_ws_open(ws):
    ws.send(%(text)r)
"""


def app_cell(text: str) -> str:
    return APP_CELL % {"text": text}


@contextmanager
def connected(url: str) -> Iterator[websocket.WebSocket]:
    page = websocket.create_connection(url, timeout=10)
    try:
        yield page
    finally:
        page.shutdown()


def left(kernel: Kernel) -> tuple[object, object]:
    """Threads and open files, IPython's own database of history apart."""
    kernel.run("import gc; gc.collect()")
    folder = Path(f"/proc/{kernel.pid}/fd")
    files: Counter[str] = Counter()
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):
            files[re.sub(r"\d+", "", os.readlink(entry))] += 1
    own = {name: count for name, count in files.items() if "profile_default" not in name}
    return kernel.value(THREADS), own


@pytest.mark.parametrize(
    "cell",
    [
        "def app(request):\n    return {'body': 'hello'}\n%httpuv_serve app",
        "def app(request):\n    return {'body': 'hello'}\n%httpuv_serve app --port 0 --token",
        "%%httpuv_app --port 0\ndef call(request):\n    return {'body': 'hello'}",
        "%httpuv_serve /usr/share --port 0",
    ],
    ids=["function", "token", "app cell", "directory"],
)
def test_a_cell_run_five_times_is_one_server(kernel: Kernel, cell: str) -> None:
    kernel.run(LOAD)

    def facts() -> tuple[object, ...]:
        get(kernel.value(PORT))
        wait_until(lambda: kernel.value("list_servers()[0].status().connections") == 0)
        return (
            kernel.value("[server.url for server in list_servers()]"),
            left(kernel),
        )

    kernel.run(cell)
    before = facts()
    for _ in range(4):
        kernel.run(cell)
    assert facts() == before


def test_an_app_cell_is_swapped_under_its_clients(kernel: Kernel) -> None:
    kernel.run(LOAD + "stop_all_servers()")
    kernel.run(app_cell("first"))
    port = kernel.value(PORT)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(client):
        client.request("GET", "/")
        assert client.getresponse().read() == b"first"
        connection = client.sock
        kernel.run(app_cell("second"))
        client.request("GET", "/")
        assert client.getresponse().read() == b"second"
        assert client.sock is connection
    assert kernel.value(PORT) == port


def test_websockets_are_closed_with_1012_on_replacement(kernel: Kernel) -> None:
    kernel.run(LOAD)
    kernel.run(app_cell("first"))
    url = f"ws://127.0.0.1:{kernel.value(PORT)}/"
    with connected(url) as page:
        assert page.recv() == "first"
        kernel.run(app_cell("second"))
        opcode, data = page.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert int.from_bytes(data[:2], "big") == 1012
    with connected(url) as page:
        assert page.recv() == "second"


def test_output_goes_to_the_cell_that_ran_last(kernel: Kernel) -> None:
    kernel.run(LOAD)
    kernel.run(app_cell("first"))
    cell = kernel.run(app_cell("second"))
    get(kernel.value(PORT))
    cell.wait_output("asked second")


def test_a_cell_that_fails_says_where_and_leaves_the_old_app(kernel: Kernel) -> None:
    kernel.run(LOAD)
    kernel.run(app_cell("first"))
    cell = kernel.execute(app_cell("second") + "1 / 0\n")
    assert cell.status == "error"
    assert re.search(r"-> +7 1 / 0", cell.error)  # of the cell, its magic counted
    assert "run_app_cell" not in cell.error
    assert get(kernel.value(PORT)).text == "first"


def test_a_users_mistake_has_no_traceback(kernel: Kernel) -> None:
    kernel.run(LOAD)
    cell = kernel.execute("%httpuv_serve no_such_thing")
    assert cell.status == "error"
    assert "no_such_thing" in cell.stderr
    assert "Traceback" not in cell.output


def test_the_link_is_shown_once_and_no_token_with_it(kernel: Kernel) -> None:
    cell = kernel.run(LOAD + "%httpuv_serve /usr/share --port 0 --token")
    assert len(cell.displays) == 1
    assert kernel.value("list_servers()[0].token") not in str(cell.messages)
    kernel.run("%httpuv_stop")


def test_foreground_serves_until_the_interrupt(kernel: Kernel) -> None:
    kernel.run(LOAD + "app = lambda request: {'body': 'hello'}")
    kernel.run("%httpuv_serve app --port 0 --quiet")
    port = kernel.value(PORT)
    cell = kernel.begin(f"%httpuv_serve app --port {port} --foreground")
    cell.wait_output(str(port))
    assert ask(port).result(10).text == "hello"
    kernel.interrupt()
    assert cell.wait().status == "ok"
    assert is_free(port)


def test_tab_asks_the_kernel(kernel: Kernel) -> None:
    kernel.run(LOAD + "def my_app(request): ...")

    def complete(code: str) -> list[str]:
        id = kernel.client.complete(code, len(code))
        found: list[str] = kernel.wait_reply(id, 20)["matches"]
        return found

    assert complete("%httpuv_serve --po") == ["--port"]
    assert complete("%httpuv_serve my") == ["my_app"]
    kernel.run("%httpuv_serve my_app --port 0")
    assert complete("%httpuv_stop m") == ["my_app"]
    assert complete("%%httpuv_app --emb") == ["--embed"]


def test_unload_leaves_nothing_behind(own_kernel: Kernel) -> None:
    kernel = own_kernel
    kernel.run("app = lambda request: {}")

    def do_round() -> tuple[object, ...]:
        kernel.run(LOAD + "%httpuv_serve app --quiet")
        kernel.run("%unload_ext httpuv_kernel")
        return left(kernel)

    do_round()  # makes what is made once, by the first print too
    before = do_round()
    for _ in range(3):
        assert do_round() == before
    assert kernel.value("list_servers()") == []
    names = "[name for names in get_ipython().magics_manager.magics.values() for name in names]"
    assert not [name for name in kernel.value(names) if name.startswith("httpuv")]
