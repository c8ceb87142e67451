"""What `make demo` runs: the example notebook in a real kernel, checked and left serving.

Exit status: 0; 1 when a cell fails, the kernel dies or a page does not answer as it should; 130
when Ctrl-C comes before all is served. The kernel ends with this program in every case.
"""

from __future__ import annotations

import argparse
import ast
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import ProxyHandler, build_opener

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager

NOTEBOOK = Path(__file__).with_name("01_serve_outputs.ipynb")
SECONDS = 60  # for the kernel to start, for one cell, for one page

# What the report is made of beside its pages; browsers refuse scripts and sheets of another type.
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json"}


class DemoError(Exception):
    """Something does not work; the text says what."""


class ThisPython(KernelSpecManager):
    """Knows one kernel, of the Python that runs this program: none needs to be installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        quiet = "--log-level=ERROR"  # what it warns of concerns kernels on a network
        return KernelSpec(argv=[*command, quiet], display_name=kernel_name, language="python")


@contextmanager
def running_kernel() -> Iterator[BlockingKernelClient]:
    """A kernel that answers; it is gone when the block is left, however that happens."""
    manager = KernelManager(kernel_spec_manager=ThisPython(), kernel_name="demo")
    try:
        manager.start_kernel(cwd=str(NOTEBOOK.parent))
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=SECONDS)
            yield client
        finally:
            client.stop_channels()
    finally:
        try:
            manager.shutdown_kernel()  # asks, and kills what has not gone after five seconds
        except KeyboardInterrupt:  # a second one: at once, then
            manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, code: str, **options: Any) -> dict[str, Any]:
    """Execute code; the kernel's reply. DemoError, with all output, when it raised or hung."""
    output: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        content = message["content"]
        output.extend(content.get("traceback", [content.get("text", "")]))

    options |= {"allow_stdin": False, "timeout": SECONDS, "output_hook": collect}
    try:
        content: dict[str, Any] = client.execute_interactive(code, **options)["content"]
    except TimeoutError as error:
        raise DemoError("\n".join([*output, f"the kernel does not answer: {error}"])) from None
    if content["status"] != "ok":
        raise DemoError("\n".join(output))
    return content


def run_notebook(client: BlockingKernelClient) -> None:
    """Execute the notebook cell by cell, and say so."""
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        start = time.monotonic()
        print(f"  {number:>2}/{len(cells)}  {cell['id']:<16}", end="", flush=True)
        try:
            run(client, "".join(cell["source"]))
        except DemoError as error:
            raise DemoError(f"cell {cell['id']!r}:\n{error}") from None
        print(f"{time.monotonic() - start:6.1f} s", flush=True)


def served(client: BlockingKernelClient) -> dict[str, str]:
    """Of each server of the kernel, oldest first: its URL for a browser → from this machine."""
    question = (
        "__import__('json').dumps({server.url: f'http://127.0.0.1:{server.port}/'"
        " for server in __import__('httpuv_kernel').list_servers()})"
    )
    reply = run(client, "", silent=True, user_expressions={"servers": question})
    answer = reply["user_expressions"]["servers"]
    if answer["status"] != "ok":
        raise DemoError(f"the kernel does not list its servers: {answer['evalue']}")
    servers: dict[str, str] = json.loads(ast.literal_eval(answer["data"]["text/plain"]))
    return servers


class Page(HTMLParser):
    """The title of a page and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [link for name, link in attrs if name in ("href", "src", "srcset") and link]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "title":
            self.title = self.title or data


def check(root: str) -> tuple[str, set[str]]:
    """Follow a server's links from its root; its title, and the kinds of file that were found.

    DemoError names a page that does not answer, or has the wrong media type.
    """
    opener = build_opener(ProxyHandler({}))  # whatever proxy is set: it is not for this machine
    title, kinds, waiting, seen = "", set(), [root], {root}
    while waiting:
        url = waiting.pop()
        try:
            with opener.open(url, timeout=SECONDS) as response:
                media_type, content = response.headers.get_content_type(), response.read()
        except (OSError, HTTPException) as error:
            raise DemoError(f"{url} does not answer: {error}") from None
        kind = PurePosixPath(urlsplit(url).path).suffix or ".html"
        if media_type != MEDIA_TYPES.get(kind, media_type):
            raise DemoError(f"{url} is {media_type}, not {MEDIA_TYPES[kind]}")
        kinds.add(kind)
        if media_type == "text/html":
            page = Page(content.decode())
            title = title or page.title
            links = {urldefrag(urljoin(url, link)).url for link in page.links} - seen
            waiting += [link for link in links if link.startswith(root)]
            seen |= links
    return title, kinds


def demo(once: bool) -> None:
    """Execute, check, and serve until Ctrl-C."""
    with running_kernel() as client:
        print(f"Executing {NOTEBOOK.name} in a kernel of {sys.executable}", flush=True)
        run_notebook(client)
        servers = served(client)
        checked = [check(local) for local in servers.values()]
        if not checked or not checked[0][1].issuperset(MEDIA_TYPES):
            raise DemoError(f"the first server is not the whole report: {checked}")
        print("\nEvery page and every file they link to answers:\n")
        for url, (title, _) in zip(servers, checked, strict=True):
            print(f"  {title:<28}{url}")
        if once:
            return
        try:
            print("\nServing until Ctrl-C.", flush=True)
            while client.is_alive():
                time.sleep(0.5)
            raise DemoError("the kernel has died")
        except KeyboardInterrupt:
            print("\nThe kernel ends, and with it its servers.", flush=True)


def main() -> int:
    """Parse the command line and run; the exit status."""
    parser = argparse.ArgumentParser(description="Execute and serve the example notebook.")
    parser.add_argument("--once", action="store_true", help="check, and do not keep serving")
    # A shell starts background jobs with Ctrl-C ignored; a kill must not skip the kernel's end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        demo(parser.parse_args().once)
    except (DemoError, RuntimeError) as error:  # the second: the kernel does not even start
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
