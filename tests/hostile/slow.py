"""slowhttptest in its three modes against a server, and how long others wait meanwhile.

A kept connection asks for a file and for the app every 50 ms; so does one that is opened anew each
time, which gets 503 while the slow ones take all connections. Ends with 1 when one answer of the
kept connection took 100 ms or longer.

    python tests/hostile/slow.py [--seconds 20] [--connections 1000] [mode ...]
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers import Client

MODES = {
    "headers": ["-H", "-i", "5", "-x", "24", "-u", "/f/small"],
    "body": ["-B", "-i", "5", "-s", "8192", "-x", "10", "-u", "/app"],
    "read": ["-X", "-n", "5", "-z", "32", "-w", "512", "-y", "1024", "-k", "3", "-u", "/f/large"],
}
WORST_MS = 100.0

SERVER = """
import logging, sys
from httpuv_kernel import service, start_server
logging.getLogger("httpuv_kernel").setLevel(logging.ERROR)
app = {"call": lambda request: {"body": b"x"}, "static_paths": {"/f": sys.argv[1]}}
with start_server("127.0.0.1", 0, app) as server:
    print(server.port, flush=True)
    service(0)
"""


class Latency:
    """How long answers took, and with which status."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.times: list[float] = []

    def ask(self, client: Client, target: str, begun: float) -> None:
        try:
            status = client.ask("GET", target).status
        except OSError:
            status = 0  # cut
        self.statuses[status] += 1
        self.times.append((time.perf_counter() - begun) * 1000)

    @property
    def worst(self) -> float:
        return max(self.times)

    def __str__(self) -> str:
        ordered = sorted(self.times)
        statuses = ", ".join(f"{count} of {status}" for status, count in self.statuses.items())
        return (
            f"worst {self.worst:.1f} ms, median {ordered[len(ordered) // 2]:.2f} ms, "
            f"of {len(ordered)} ({statuses})"
        )


def watch(port: int, latency: Latency, over: threading.Event, *, keeps: bool) -> None:
    """Ask for a file and for the app until it is over."""
    with Client(port) as kept:
        for target in itertools.cycle(("/f/small", "/app")):
            begun = time.perf_counter()
            if keeps:
                latency.ask(kept, target, begun)
            else:
                with Client(port) as client:
                    latency.ask(client, target, begun)
            if over.wait(0.05):
                return


def measure(port: int, command: list[str], prefix: str) -> tuple[Latency, Latency, str]:
    """Ask while a command runs: by one connection, by new ones; and what the command printed."""
    kept, new = Latency(), Latency()
    over = threading.Event()
    with open(f"{prefix}.out", "w+b") as output, ThreadPoolExecutor() as pool:
        watches = [
            pool.submit(watch, port, kept, over, keeps=True),
            pool.submit(watch, port, new, over, keeps=False),
        ]
        try:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        finally:
            over.set()
        for each in watches:
            each.result()
        output.seek(0)
        text = re.sub(r"\x1b\[[0-9;]*m", "", output.read().decode("utf-8", "replace"))
    return kept, new, text


def summary(text: str) -> str:
    """The most connections that slowhttptest had open, by its own count."""
    counts = [int(count) for count in re.findall(r"^connected:\s+(\d+)", text, re.MULTILINE)]
    return f"slow connections: up to {max(counts, default=0)}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("modes", nargs="*", default=list(MODES))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--connections", type=int, default=1000)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small").write_bytes(bytes(1000))
        (Path(folder) / "large").write_bytes(bytes(1_000_000))
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, folder], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            kept, new, _ = measure(port, ["sleep", "5"], f"{folder}/none")
            print(f"none     to compare\n  kept     {kept}\n  new      {new}", flush=True)
            for mode in options.modes:
                *flags, path = MODES[mode]
                # Outside tests an attacker has a processor of its own.
                url = f"http://127.0.0.1:{port}{path}"
                command = ["nice", "-n", "19", "slowhttptest", *flags, url]
                command += ["-c", str(options.connections), "-l", str(options.seconds)]
                command += ["-r", str(options.connections // 4), "-v", "1"]
                kept, new, text = measure(port, command, f"{folder}/{mode}")
                print(f"{mode:8} {summary(text)}\n  kept     {kept}\n  new      {new}", flush=True)
                failed |= kept.worst >= WORST_MS or set(kept.statuses) != {200}
        finally:
            server.terminate()
            server.wait()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
