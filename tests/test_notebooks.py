"""The notebooks: every cell runs in a real kernel, and what they serve answers while it lives."""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nbformat
import pytest
import websocket
from helpers import wait_until
from jupyter_client.kernelspec import KernelSpec
from kernels import Answer, ask, get, is_free
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
_COMMAND = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

# Of whom a kernel knows that the browser is elsewhere.
_ELSEWHERE = re.compile(r"HTTPUV_|JUPYTER|VSCODE_|COLAB_|CODESPACE|RS_SERVER|DATABRICKS|DEEPNOTE")


class Executed:
    """A notebook whose cells have run, in a kernel that still does."""

    def __init__(self, client: NotebookClient) -> None:
        self._client = client
        self.ports: dict[str, int] = self.value("{s.name: s.port for s in __servers()}")

    def run(self, code: str) -> Any:
        """Run a cell that must not fail; what it printed."""
        cell = nbformat.v4.new_code_cell(code)
        self._client.nb.cells.append(cell)
        self._client.execute_cell(cell, len(self._client.nb.cells) - 1)
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")

    def begin(self, code: str) -> None:
        """Start a cell; returns when it is sent."""
        self._client.kc.execute(code)

    def interrupt(self) -> None:
        os.kill(self._client.km.provisioner.pid, signal.SIGINT)

    def value(self, expression: str) -> Any:
        """The value of an expression there, if a literal."""
        expression = expression.replace("__servers", "__import__('httpuv_kernel').list_servers")
        return ast.literal_eval(self.run(f"print(repr({expression}))"))

    def post(self, name: str, path: str, body: str, content_type: str) -> Answer:
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=10)
        connection.request("POST", path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        headers = {key.lower(): value for key, value in response.getheaders()}
        answer = Answer(response.status, headers, response.read(), time.monotonic() - begun)
        connection.close()
        return answer


@contextmanager
def executed(name: str, directory: Path, config: str = "") -> Iterator[Executed]:
    """Run a notebook where it stands; at the end nothing of it may be left.

    `config`: lines of the kernel's configuration file.
    """
    temporary, before = directory / "tmp", sorted(FOLDER.iterdir())
    temporary.mkdir()
    profile = directory / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(config)
    environment = {k: v for k, v in os.environ.items() if not _ELSEWHERE.match(k)}
    environment |= {
        "TMPDIR": str(temporary),
        "IPYTHONDIR": str(directory / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    client = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(FOLDER)}})
    client.create_kernel_manager()
    client.km._kernel_spec = KernelSpec(argv=_COMMAND, display_name=name, language="python")
    with open(directory / "log", "w") as log, client.setup_kernel(env=environment, stderr=log):
        for index, cell in enumerate(list(notebook.cells)):
            client.execute_cell(cell, index)
        done = Executed(client)
        yield done
    wait_until(lambda: all(map(is_free, done.ports.values())))
    wait_until(lambda: not list(temporary.iterdir()))
    assert sorted(FOLDER.iterdir()) == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_results(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].source.startswith("%load_ext httpuv_kernel\n")
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(re.fullmatch("[a-z-]+", cell.id) for cell in notebook.cells)  # names, not numbers
    text = re.sub(r"http://(www\.w3\.org/2000/svg|127\.0\.0\.1)", "", path.read_text())
    assert not re.search(r"""(href|src)=\\?["'](https?:)?//|/home/|/tmp/""", text)


@pytest.mark.kernel
def test_01_serve_outputs(tmp_path: Path) -> None:
    with executed("01_serve_outputs", tmp_path) as notebook:
        outputs, site, live = notebook.ports.values()
        assert get(outputs, "/report.js").headers["content-type"].startswith("text/javascript")
        assert get(site).text.startswith("<!doctype html>")
        assert "Where chaos begins" in get(live).text
        assert len(json.loads(get(live, "/api/study").body)) == 14
        notebook.run("study.clear()")
        assert json.loads(get(live, "/api/study").body) == []


@pytest.mark.kernel
def test_02_live_app(tmp_path: Path) -> None:
    with executed("02_live_app", tmp_path) as notebook:
        port, form = notebook.ports["co2"], "application/x-www-form-urlencoded"
        assert "424.6 ppm in 2024" in get(port).text
        sent = notebook.post("co2", "/measurements", urlencode({"year": 2025, "ppm": 427}), form)
        assert (sent.status, sent.headers["location"]) == (303, "./")
        assert "427.0 ppm in 2025" in get(port).text
        assert get(port, "/plot").body.startswith(b"\x89PNG")
        assert json.loads(get(port, "/table").body)[-1]["ppm"] == 427
        assert get(port, "/uploads/recent.csv").text.startswith("year,ppm")
        assert (get(port, "/average?years=0").status, get(port, "/nothing").status) == (500, 404)
        notebook.run("headline = 'changed <here>'")
        assert "changed &lt;here&gt;" in get(port).text
        assert len(json.loads(get(notebook.ports["latest"], "/?rows=2").body)) == 2


@pytest.mark.kernel
def test_03_websocket_dashboard(tmp_path: Path) -> None:
    with executed("03_websocket_dashboard", tmp_path) as notebook:
        port = notebook.ports["kuramoto"]
        assert "<title>Kuramoto, live</title>" in get(port).text
        socket = websocket.create_connection(f"ws://127.0.0.1:{port}/live", timeout=10)
        times = [json.loads(socket.recv())["time"] for _ in range(5)]  # no cell runs
        assert times == sorted(set(times))
        socket.send('{"coupling": 1.5}')
        wait_until(lambda: json.loads(socket.recv())["coupling"] == 1.5)
        assert notebook.value("(model.coupling, len(watching))") == (1.5, 1)
        socket.send("nonsense")
        wait_until(lambda: socket.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE)
        socket.shutdown()
        wait_until(lambda: notebook.value("len(watching)") == 0)


@pytest.mark.kernel
def test_04_busy_kernel(tmp_path: Path) -> None:
    with executed("04_busy_kernel", tmp_path) as notebook:
        port = notebook.ports["mandelbrot"]
        assert json.loads(get(port, "/progress.json").body)["state"] == "done"
        assert get(port, "/rows").text == "60 rows\n"
        notebook.begin("for i in progress(iter(int, 1), server, label='endless'): pass")

        def figures() -> Any:
            return json.loads(get(port, "/progress.json").body)

        wait_until(lambda: figures()["label"] == "endless")
        waiting, first = ask(port, "/rows"), figures()["done"]
        wait_until(lambda: figures()["done"] > first)
        assert "<progress" in get(port, "/progress").text
        assert get(port, "/picture.png").body.startswith(b"\x89PNG")
        assert not waiting.done()
        notebook.interrupt()
        assert waiting.result().text == "60 rows\n"
        assert figures()["state"] == "ended early"


@pytest.mark.kernel
def test_05_streaming(tmp_path: Path) -> None:
    with executed("05_streaming", tmp_path) as notebook:
        port = notebook.ports["tide"]
        assert "EventSource" in get(port).text
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/feed", headers={"Last-Event-ID": "9" * 18})  # nothing to replay
        response = connection.getresponse()
        assert response.headers["content-type"] == "text/event-stream"
        wait_until(lambda: notebook.value("len(feed)") > 0)
        notebook.run("feed.send('the tide is high')")
        wait_until(lambda: response.readline() == b"data: the tide is high\n")
        notebook.run("feed.close()")
        wait_until(lambda: response.readline() == b"")
        connection.close()
        assert get(port, "/feed").status == 204
        assert len(get(port, "/files/archive.bin").body) == 48_000_000


@pytest.mark.kernel
def test_06_behind_a_proxy(tmp_path: Path) -> None:
    with executed("06_behind_a_proxy", tmp_path) as notebook:
        site, secret = notebook.ports["site"], notebook.ports["secret"]
        outside = notebook.value("proxy.server_port")
        assert "It works" in get(outside, f"/user/ada/proxy/{site}/").text
        assert get(outside, f"/user/ada/proxy/{site}/data").headers["location"] == "data/"
        assert get(outside, f"/user/ada/proxy/{site}/api").status == 200
        token = notebook.value("secret.token")
        assert (get(secret).status, get(secret, f"/{token}/").status) == (403, 200)
        shown = json.dumps(notebook._client.nb.cells)
        assert shown.count(token) == 1  # what the line above has printed
        assert notebook.value("__import__('os').environ.get('HTTPUV_KERNEL_URL')") is None
