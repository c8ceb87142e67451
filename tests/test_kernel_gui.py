"""Callbacks while the kernel runs a GUI's event loop: `%gui qt`, `%gui tk`, `%gui asyncio`."""

from __future__ import annotations

import functools
import operator
import os
import shutil
import statistics
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from helpers import wait_until
from kernels import Answer, Cell, Kernel, ask, get, is_free, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

T = TypeVar("T")

TOOLKITS = {"qt": "PySide6", "tk": "_tkinter"}

HELLO = "app = lambda request: {'body': threading.current_thread().name}"

# What is to be gone after unload.
TRACES = """
def traces(ip=get_ipython()):
    if ip.kernel.eventloop.__name__ == "loop_qt":
        from PySide6.QtCore import QSocketNotifier, Qt
        # ipykernel's own, one more for each %gui, are children of its event loops.
        direct = Qt.FindChildOption.FindDirectChildrenOnly
        notifiers = len(ip.kernel.app.findChildren(QSocketNotifier, options=direct))
    else:
        notifiers = 0
    observers = ip.kernel._trait_notifiers["eventloop"]["change"]
    return notifiers, len(observers), len(ip.events.callbacks["post_execute"])
"""


# ipykernel leaves a GUI's loop when its stream's flush() has read a message. One that comes within
# flush() is not read, and not announced again: without our own servers, which see to that, a kernel
# of ipykernel 7.4 under `%gui qt` answers no more after some hundred cells in quick succession.
MEND_FLUSH = """
from zmq.eventloop.zmqstream import ZMQStream
if not hasattr(ZMQStream, "hasty_flush"):
    ZMQStream.hasty_flush = ZMQStream.flush
    def flush(self, *arguments, **options):
        count = self.hasty_flush(*arguments, **options)
        if not count and self.socket is not None and self.socket.EVENTS & 1:
            count = self.hasty_flush(*arguments, **options)
        return count
    ZMQStream.flush = flush
"""


@pytest.fixture(scope="module", autouse=True)
def display() -> Iterator[None]:
    """An X server that shows nothing, for Tk; Qt needs none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QT_QPA_PLATFORM", "offscreen")
        patch.delenv("DISPLAY", raising=False)
        if shutil.which("Xvfb") is None:
            assert os.environ.get("CI") != "true", "Xvfb is missing; tests/setup_debian.sh has it"
            yield
            return
        reader, writer = os.pipe()
        command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "320x240x8"]
        xvfb = subprocess.Popen(
            [*command, "-nolisten", "tcp"], pass_fds=[writer], stderr=subprocess.DEVNULL
        )
        os.close(writer)
        with open(reader) as numbers:
            patch.setenv("DISPLAY", f":{numbers.readline().strip()}")
        yield
        xvfb.terminate()
        xvfb.wait()


@pytest.fixture(autouse=True)
def freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our servers, ipykernel 7 may overlook a message under `%gui` until the next comes."""

    def wait(kernel: Kernel, timeout: float, attempt: Callable[[], T]) -> T:
        deadline = time.monotonic() + timeout
        while True:
            try:
                return attempt()
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
                kernel.client.kernel_info()

    def wait_reply(kernel: Kernel, id: str, timeout: float, channel: str = "shell") -> object:
        return wait(kernel, timeout, lambda: patient_reply(kernel, id, 1, channel))

    def wait_begun(cell: Cell) -> Cell:
        begun = functools.partial(cell.contents, "execute_input")
        wait(cell._kernel, 20, lambda: wait_until(begun, 1))
        return cell

    patient_reply = Kernel.wait_reply
    monkeypatch.setattr(Kernel, "wait_reply", wait_reply)
    monkeypatch.setattr(Cell, "wait_begun", wait_begun)


def switch(kernel: Kernel, gui: str) -> Cell:
    """Turn a GUI loop on; skips where the toolkit is missing."""
    needed = TOOLKITS.get(gui)
    if needed and not kernel.value(f"bool(__import__('importlib').util.find_spec('{needed}'))"):
        reason = f"{needed} is not installed beside this ipykernel"
        if gui == "qt" and os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    if gui == "tk" and "DISPLAY" not in os.environ:
        pytest.skip("Xvfb is not installed")
    kernel.run(MEND_FLUSH)
    return kernel.run(f"%gui {gui}")


@pytest.fixture
def gui(kernel: Kernel, toolkit: str) -> Iterator[Cell]:
    """The loop of the test's `toolkit` is on; the cell that turned it on."""
    yield switch(kernel, toolkit)
    if kernel.is_alive:
        kernel.run("%gui")


both_toolkits = pytest.mark.parametrize("toolkit", TOOLKITS)


# A window that moves, as it were: the loop comes round every 20 ms.
TICKS = {
    "qt": """
        from PySide6.QtCore import QTimer
        ticker = QTimer()
        ticker.start(20)
        """,
    "tk": """
        import tkinter
        root = tkinter.Tk()
        def tick():
            root.after(20, tick)
        tick()
        """,
}


def typical_seconds(question: Callable[[], Answer]) -> float:
    return statistics.median(question().seconds for _ in range(5))


def cpu_seconds(kernel: Kernel) -> float:
    """The processor's time that the kernel has used."""
    fields = Path(f"/proc/{kernel.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_rests(kernel: Kernel) -> None:
    """A check against spinning, and against leaving the loop again and again; not of speed."""
    before, begun = cpu_seconds(kernel), time.monotonic()
    wait_until(lambda: time.monotonic() > begun + 1)
    assert cpu_seconds(kernel) - before < 0.1


# -- the loops -------------------------------------------------------------------------------------


@pytest.mark.parametrize("toolkit", [*TOOLKITS, "asyncio"])
def test_a_request_is_answered_at_once(kernel: Kernel, gui: Cell) -> None:
    port = kernel.serve(HELLO).port
    assert get(port).text == "MainThread"
    assert typical_seconds(lambda: get(port)) < 0.3


@both_toolkits
def test_a_loop_that_is_turned_on_after_the_server_was_started(
    kernel: Kernel, toolkit: str
) -> None:
    port = kernel.serve(HELLO).port
    switch(kernel, toolkit)
    assert get(port).text == "MainThread"
    kernel.run("%gui")
    assert get(port).text == "MainThread"


def test_loops_that_are_switched(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    for toolkit in ("qt", "tk", "qt", "asyncio"):
        switch(kernel, toolkit)
        assert typical_seconds(lambda: get(port)) < 0.3
        kernel.run("%gui")
        assert typical_seconds(lambda: get(port)) < 0.3


def test_matplotlib_turns_it_on(own_kernel: Kernel) -> None:
    if not own_kernel.value("bool(__import__('importlib').util.find_spec('matplotlib'))"):
        pytest.skip("matplotlib is not installed beside this ipykernel")
    port = own_kernel.serve(HELLO).port
    own_kernel.run("%matplotlib qt")
    assert own_kernel.value("get_ipython().kernel.eventloop.__name__") == "loop_qt"
    assert typical_seconds(lambda: get(port)) < 0.3


def test_no_toolkit_is_imported_for_nothing(own_kernel: Kernel) -> None:
    assert get(own_kernel.serve(HELLO).port).status == 200
    imported = own_kernel.value("[name for name in ('PySide6', 'tkinter') if name in sys.modules]")
    assert imported == []


@both_toolkits
def test_the_idle_loop_does_not_spin(kernel: Kernel, gui: Cell) -> None:
    assert get(kernel.serve(HELLO).port).status == 200
    assert_rests(kernel)


# -- callbacks -------------------------------------------------------------------------------------


@both_toolkits
def test_output_goes_to_the_starting_cell(kernel: Kernel, gui: Cell) -> None:
    port, cell = kernel.serve("def app(request):\n    print('printed')\n    display('displayed')")
    other = kernel.run("1")
    get(port)
    cell.wait_output("printed").wait_output("displayed")
    assert "printed" not in other.output
    assert "displayed" not in other.output


@both_toolkits
@pytest.mark.parametrize("server", [True, False], ids=["server", "no server"])
def test_later(kernel: Kernel, gui: Cell, server: bool) -> None:
    if server:
        kernel.serve(HELLO)
    cell = kernel.run("later(lambda: print('in', threading.current_thread().name), 0.05)")
    cell.wait_output("in MainThread")


@both_toolkits
def test_many_callbacks_that_take_long(kernel: Kernel, gui: Cell) -> None:
    """After some of them the kernel gets a pause, which must end without its asyncio loop."""
    port = kernel.serve("def app(request):\n    time.sleep(0.015)\n    return {}").port
    answers = [ask(port) for _ in range(8)]
    assert [answer.result(10).status for answer in answers] == [200] * 8


@both_toolkits
def test_a_coroutine_handler_that_waits(kernel: Kernel, gui: Cell) -> None:
    code = """
    gate = asyncio.Event()
    async def app(request):
        if request.path == "/open":
            gate.set()
        await asyncio.wait_for(gate.wait(), 10)
        await asyncio.sleep(0.1)
        return {"body": request.path}
    """
    port = kernel.serve(code).port
    waiting = ask(port, "/wait")
    assert get(port, "/open").text == "/open"
    assert waiting.result(10).text == "/wait"
    assert typical_seconds(lambda: get(port)) < 2
    assert_rests(kernel)  # its turns end with it


@both_toolkits
def test_a_coroutine_handler_that_waits_when_the_loop_is_turned_on(
    kernel: Kernel, toolkit: str
) -> None:
    code = """
    gate = asyncio.Event()
    async def app(request):
        print("waits", flush=True)
        await asyncio.wait_for(gate.wait(), 10)
        await asyncio.sleep(0.1)
        return {}
    """
    port, cell = kernel.serve(code)
    answer = ask(port)
    cell.wait_output("waits")
    switch(kernel, toolkit)
    kernel.run("later(gate.set, 0.1)")
    assert answer.result(10).status == 200
    kernel.run("%gui")


@both_toolkits
def test_a_message_that_the_kernel_has_overlooked(kernel: Kernel, gui: Cell) -> None:
    """As when one comes between its two looks at a socket that announces it once."""
    code = """
    def look(kernel=get_ipython().kernel):
        stream = kernel.shell_stream
        if getattr(kernel, "shell_channel_thread", None):
            stream = kernel.shell_channel_thread.manager._shell_channel_to_main.to_stream
        print("looks", flush=True)
        while not stream.socket.EVENTS & 1:  # ZMQ_POLLIN
            time.sleep(0.001)
        stream._rebuild_io_state()
    later(look, 0.1)
    """
    kernel.run(code).wait_output("looks")
    assert kernel.value("6 * 7") == 42


@both_toolkits
def test_service_in_a_cell(kernel: Kernel, gui: Cell) -> None:
    code = """
    over = False
    def app(request):
        global over
        over = request.path == "/over"
        return {}
    """
    port = kernel.serve(code).port
    cell = kernel.begin("while not over: service(50)")
    assert get(port).status == 200
    assert not any(content["execution_state"] == "idle" for content in cell.contents("status"))
    assert get(port, "/over").status == 200
    assert cell.wait().status == "ok"
    assert get(port).status == 200


@both_toolkits
def test_an_interrupt_ends_a_callback(kernel: Kernel, gui: Cell) -> None:
    code = """
    def app(request):
        if request.path == "/endless":
            print("spinning", flush=True)
            while True:
                pass
        return {"body": "quick"}
    """
    port, cell = kernel.serve(code)
    answer = ask(port, "/endless")
    cell.wait_output("spinning")
    kernel.interrupt()
    assert answer.result(10).status == 500
    cell.wait_output("KeyboardInterrupt")
    assert get(port).text == "quick"
    assert kernel.value("6 * 7") == 42
    wait_until(lambda: kernel.ignores_sigint)


@both_toolkits
def test_a_traceback_that_another_thread_frees(kernel: Kernel, gui: Cell) -> None:
    code = """
    import gc
    def app(request):
        try:
            raise LookupError
        except LookupError as error:
            error.cycle = error
        return {}
    """
    port = kernel.serve(code).port
    kernel.run("gc.collect(); gc.disable()")
    for _ in range(3):
        assert get(port).status == 200
        kernel.run("1")
    code = """
    worker = threading.Thread(target=gc.collect)
    worker.start()
    worker.join()
    gc.enable()
    """
    kernel.run(code)
    assert get(port).status == 200


# -- loops that a cell runs ------------------------------------------------------------------------

NESTED = {
    "qt exec": """
        from PySide6.QtCore import QEventLoop, QTimer
        loop = QEventLoop()
        QTimer.singleShot(800, loop.quit)
        loop.exec()
        """,
    "tk mainloop": """
        import tkinter
        root = tkinter.Tk()
        root.after(800, root.quit)
        root.mainloop()
        root.destroy()
        """,
    "tk update": """
        import tkinter
        root = tkinter.Tk()
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            root.update()
            time.sleep(0.001)
        root.destroy()
        """,
}


@pytest.mark.parametrize(
    ("toolkit", "code"), [(name[:2], code) for name, code in NESTED.items()], ids=NESTED
)
def test_a_cell_that_runs_the_loop_itself_is_not_mixed_with_callbacks(
    kernel: Kernel, gui: Cell, code: str
) -> None:
    port = kernel.serve("app = lambda request: {'body': repr(time.monotonic())}").port
    cell = kernel.begin(f"{code}\n        ended = time.monotonic(); used = time.process_time()")
    before = cpu_seconds(kernel)
    answer = ask(port)
    assert cell.wait().status == "ok", cell.error
    called = float(answer.result(10).text)
    ended, used = kernel.value("(ended, used)")
    assert ended <= called < ended + 0.5
    assert used - before < 0.3  # that it waits must not keep the loop spinning
    assert typical_seconds(lambda: get(port)) < 0.3


@pytest.mark.parametrize(("toolkit", "code"), [(n[:2], c) for n, c in NESTED.items()], ids=NESTED)
def test_a_message_that_waits_for_such_a_cell(kernel: Kernel, gui: Cell, code: str) -> None:
    """Also when the cell ends with turning the loop off."""
    kernel.serve(HELLO)
    kernel.begin(f"{code}\n        get_ipython().run_line_magic('gui', '')")
    assert kernel.value("6 * 7") == 42


def test_a_callback_that_runs_the_loop_itself(kernel: Kernel) -> None:
    switch(kernel, "qt")
    code = """
    from PySide6.QtCore import QEventLoop, QTimer
    def app(request):
        if request.path == "/dialog":
            loop = QEventLoop()
            QTimer.singleShot(300, loop.quit)
            loop.exec()
        return {"body": request.path}
    """
    port = kernel.serve(code).port
    dialog = ask(port, "/dialog")
    assert get(port, "/beside").text == "/beside"
    assert dialog.result(10).text == "/dialog"
    assert typical_seconds(lambda: get(port)) < 0.3
    kernel.run("%gui")


# -- coming and going ------------------------------------------------------------------------------


@both_toolkits
def test_unload_leaves_nothing(kernel: Kernel, gui: Cell) -> None:
    def do_round() -> int:
        port = kernel.serve("%load_ext httpuv_kernel\n" + HELLO).port
        assert get(port).text == "MainThread"
        kernel.run("%unload_ext httpuv_kernel")
        assert is_free(port)
        return kernel.descriptors

    kernel.run(TRACES + "\n%load_ext httpuv_kernel\n%unload_ext httpuv_kernel")
    before, descriptors = kernel.value("traces()"), do_round()
    for _ in range(2):
        do_round()
    # Qt deletes in a later turn of its loop: at first there may have been one more.
    wait_until(lambda: all(map(operator.le, kernel.value("traces()"), before)))
    wait_until(lambda: kernel.descriptors <= descriptors)


@both_toolkits
def test_servers_of_another_thread(kernel: Kernel, gui: Cell, toolkit: str) -> None:
    """Such as a subshell's; the main thread stays in the GUI's loop."""
    code = """
    def work():
        global server
        server = start_server("127.0.0.1", 0, app)
        served.wait(10)
        stop_all_servers()
        closing.wait(10)
        httpuv_kernel.unload_ipython_extension(get_ipython())
        closed.set()
    served, closing, closed = [threading.Event() for _ in range(3)]
    httpuv_kernel.unload_ipython_extension(get_ipython())  # what the tests before have left
    before = traces()
    later(lambda: threading.Thread(target=work).start(), 0.1)
    """
    kernel.run(TRACES + HELLO + textwrap.dedent(code))
    wait_until(lambda: kernel.value("len(list_servers())") == 1)
    port = kernel.value("server.port")
    assert typical_seconds(lambda: get(port)) < 0.3
    kernel.run("later(served.set, 0.05)")
    wait_until(lambda: is_free(port))
    kernel.run(TICKS[toolkit] + "\n        threading.Timer(0.1, closing.set).start()")
    before, begun = cpu_seconds(kernel), time.monotonic()
    wait_until(lambda: time.monotonic() > begun + 0.5)
    assert cpu_seconds(kernel) - before < 0.3  # closed, and still watched
    wait_until(lambda: kernel.value("closed.is_set()"))
    wait_until(lambda: kernel.value("all(now <= then for now, then in zip(traces(), before))"))
    kernel.run({"qt": "ticker.stop()", "tk": "root.destroy()"}[toolkit])
